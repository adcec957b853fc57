// Transfers at a constant rate between funded accounts, some of them repeated, some refused.
// How to run it and what it promises: README.md beside this file.
import http from 'k6/http';
import exec from 'k6/execution';
import { check, fail, sleep } from 'k6';
import { Counter, Trend } from 'k6/metrics';

const BASE_URL = (__ENV.BASE_URL || 'http://127.0.0.1:8080').replace(/\/+$/, '');
const RATE = Number(__ENV.RATE || 300);
const DURATION = __ENV.DURATION || '60s';
const ACCOUNTS = Number(__ENV.ACCOUNTS || 1000);
const DUPLICATES = Number(__ENV.DUPLICATES || 0.05);
const OVERDRAFTS = Number(__ENV.OVERDRAFTS || 0.05);

const CURRENCY = 'USD';
const FUNDS = 1000; // of each account at the start
const MORE_THAN_ALL = (FUNDS * ACCOUNTS + 1).toFixed(2);
const BATCH = 1000; // items, the most one call takes
const FUNDED_WITHIN_S = 120;
const FINAL_WITHIN_S = 10;
const REFUSED_WITHIN_S = 10;

const acceptLatency = new Trend('accept_latency', true);
const refusalLatency = new Trend('refusal_latency', true);
const leftoverTransfers = new Counter('leftover_transfers');

export const options = {
  scenarios: {
    transfers: {
      executor: 'constant-arrival-rate',
      rate: RATE,
      timeUnit: '1s',
      duration: DURATION,
      preAllocatedVUs: Math.max(20, Math.ceil(RATE / 4)),
      maxVUs: Math.max(100, RATE * 2),
    },
  },
  thresholds: {
    http_req_failed: ['rate==0'],
    checks: ['rate>0.999'],
    leftover_transfers: ['count==0'],
  },
  summaryTrendStats: ['min', 'med', 'avg', 'p(95)', 'p(99)', 'max'],
  setupTimeout: '5m',
  teardownTimeout: '2m',
  batch: 50,
  batchPerHost: 50,
};

http.setResponseCallback(http.expectedStatuses(200, 202));

export function setup() {
  if (ACCOUNTS < 2) fail('ACCOUNTS must be at least 2');
  const run = `k6-${Date.now().toString(36)}`;
  const customers = Array.from({ length: ACCOUNTS }, (_, n) => customer(run, n));
  createAccounts([
    { id: external(run), currency: CURRENCY, kind: 'external' },
    ...customers.map((id) => ({ id, currency: CURRENCY, kind: 'customer' })),
  ]);
  fund(run, customers);
  return { run };
}

export default function ({ run }) {
  const kind = Math.random();
  const overdraft = kind < OVERDRAFTS;
  const duplicate = !overdraft && kind < OVERDRAFTS + DUPLICATES;
  const key = `${run}-${exec.scenario.iterationInTest}`;
  const [source, destination] = pair(run);
  const transfer = { source, destination, currency: CURRENCY, amount: overdraft ? MORE_THAN_ALL : smallAmount() };
  if (overdraft) {
    refused(key, transfer);
    return;
  }
  const id = accepted(key, transfer);
  if (duplicate) repeated(key, transfer, id);
}

// Virtual users share no memory, so what is not final is asked of the accounts.
export function teardown({ run }) {
  const deadline = Date.now() + FINAL_WITHIN_S * 1000;
  let accounts = [external(run), ...Array.from({ length: ACCOUNTS }, (_, n) => customer(run, n))];
  let open = openTransfers(accounts);
  while (open.count > 0 && Date.now() < deadline) {
    sleep(0.2);
    open = openTransfers(open.accounts);
  }
  leftoverTransfers.add(open.count);
}

function accepted(key, transfer) {
  const answer = post('/v1/transfers', transfer, { 'Idempotency-Key': key });
  acceptLatency.add(answer.timings.duration);
  check(answer, {
    'accepted: 202': (r) => r.status === 202,
    'accepted: has an id': (r) => Boolean(field(r, 'id')),
  });
  return field(answer, 'id');
}

function repeated(key, transfer, id) {
  const answer = post('/v1/transfers', transfer, { 'Idempotency-Key': key });
  check(answer, {
    'repeated: 200 or 202': (r) => r.status === 200 || r.status === 202,
    'repeated: the same id': (r) => field(r, 'id') === id,
    'repeated: a 200 says it is a replay': (r) => r.status !== 200 || r.headers['Idempotent-Replayed'] === 'true',
  });
}

function refused(key, transfer) {
  const headers = { 'Idempotency-Key': key, Prefer: `wait=${REFUSED_WITHIN_S}` };
  const answer = post('/v1/transfers', transfer, headers);
  refusalLatency.add(answer.timings.duration);
  check(answer, {
    'overdraft: final in time': (r) => r.status === 200,
    'overdraft: rejected': (r) => field(r, 'status') === 'rejected',
    'overdraft: for insufficient funds': (r) => field(r, 'reason') === 'insufficient_funds',
  });
}

function createAccounts(accounts) {
  for (const some of chunks(accounts, BATCH)) {
    results(post('/v1/accounts/batch', { accounts: some }), some.length, [200, 201]);
  }
}

function fund(run, customers) {
  const transfers = customers.map((destination) => ({
    idempotency_key: `${run}-fund-${destination}`,
    source: external(run),
    destination,
    amount: FUNDS.toFixed(2),
    currency: CURRENCY,
  }));
  for (const some of chunks(transfers, BATCH)) {
    results(post('/v1/transfers/batch', { transfers: some }), some.length, [200, 202]);
  }
  awaitFunds(sample(customers, 20));
}

function awaitFunds(accounts) {
  const deadline = Date.now() + FUNDED_WITHIN_S * 1000;
  let waiting = accounts;
  while (waiting.length > 0) {
    if (Date.now() > deadline) fail(`${waiting[0]} was not funded within ${FUNDED_WITHIN_S} s`);
    const urls = waiting.map((id) => get(`/v1/accounts/${id}/balance?consistency=strong`, 'balance'));
    const answers = http.batch(urls);
    waiting = waiting.filter((_, n) => Number(field(answers[n], 'available')) !== FUNDS);
    if (waiting.length > 0) sleep(0.2);
  }
}

// How many transfers of these accounts are not final, and the accounts that have some. A first
// page is enough: all that counts is whether it is empty. An answer that is no page counts as one.
function openTransfers(accounts) {
  const open = { count: 0, accounts: [] };
  for (const some of chunks(accounts, 100)) {
    const requested = http.batch(some.map((id) => get(`/v1/accounts/${id}/transfers?status=requested`, 'open transfers')));
    const held = http.batch(some.map((id) => get(`/v1/accounts/${id}/transfers?status=held`, 'open transfers')));
    some.forEach((id, n) => {
      const count = pageLength(requested[n]) + pageLength(held[n]);
      if (count > 0) open.accounts.push(id);
      open.count += count;
    });
  }
  return open;
}

function pageLength(answer) {
  const data = field(answer, 'data');
  return Array.isArray(data) ? data.length : 1;
}

// Each item of a batch is answered by itself; one that failed ends the run before it begins.
function results(answer, length, expected) {
  const list = field(answer, 'results');
  if (answer.status !== 200 || !Array.isArray(list) || list.length !== length) {
    fail(`${answer.request.url} answered ${answer.status}: ${String(answer.body).slice(0, 300)}`);
  }
  const bad = list.find((result) => !expected.includes(result.status));
  if (bad) fail(`${answer.request.url} refused an item: ${JSON.stringify(bad)}`);
}

function post(path, body, headers = {}) {
  return http.post(BASE_URL + path, JSON.stringify(body), {
    headers: { 'Content-Type': 'application/json', ...headers },
    tags: { name: `POST ${path}` },
  });
}

function get(path, name) {
  return { method: 'GET', url: BASE_URL + path, params: { tags: { name } } };
}

function field(answer, name) {
  try {
    return answer.json()[name];
  } catch {
    return undefined;
  }
}

function external(run) {
  return `${run}-external`;
}

function customer(run, n) {
  return `${run}-${n}`;
}

function pair(run) {
  const source = Math.floor(Math.random() * ACCOUNTS);
  const step = 1 + Math.floor(Math.random() * (ACCOUNTS - 1));
  return [customer(run, source), customer(run, (source + step) % ACCOUNTS)];
}

// At most 1.00, so that no account runs dry by chance.
function smallAmount() {
  return ((1 + Math.floor(Math.random() * 100)) / 100).toFixed(2);
}

function chunks(list, size) {
  return Array.from({ length: Math.ceil(list.length / size) }, (_, n) => list.slice(n * size, (n + 1) * size));
}

// About `size` items spread over the list, the last one among them.
function sample(list, size) {
  const step = Math.max(1, Math.floor(list.length / size));
  return list.filter((_, n) => (list.length - 1 - n) % step === 0);
}
