// Three times what is sustainable, for a minute, without ever waiting for an answer before the next
// request is sent: how many are accepted, how many are told to come later, and whether every one
// that was accepted ends. How to run it and what it promises: README.md beside this file.
import http from 'k6/http';
import exec from 'k6/execution';
import { check, fail, sleep } from 'k6';
import { Counter, Gauge, Trend } from 'k6/metrics';

const BASE_URL = (__ENV.BASE_URL || 'http://127.0.0.1:8080').replace(/\/+$/, '');
const SUSTAINABLE = Number(__ENV.RATE || 1000); // transfers a second
const FACTOR = Number(__ENV.FACTOR || 3);
const DURATION = __ENV.DURATION || '60s';
const ACCOUNTS = Number(__ENV.ACCOUNTS || 1000);
const PER_REQUEST = Number(__ENV.PER_REQUEST || 10); // transfers in one request
const FINAL_WITHIN_S = Number(__ENV.FINAL_WITHIN || 300);

const OVERDRAFT = '1000000.00';
const BATCH = 1000;

const accepted = new Counter('transfers_accepted');
const refused = new Counter('transfers_refused');
const other = new Counter('transfers_other');
const leftover = new Counter('transfers_leftover');
const acceptLatency = new Trend('accept_latency', true);
const refusalLatency = new Trend('refusal_latency', true);
const drained = new Gauge('seconds_until_all_final');

const REQUESTS = Math.ceil((SUSTAINABLE * FACTOR) / PER_REQUEST);

export const options = {
  scenarios: {
    overload: {
      executor: 'constant-arrival-rate',
      rate: REQUESTS,
      timeUnit: '1s',
      duration: DURATION,
      preAllocatedVUs: REQUESTS,
      maxVUs: REQUESTS * 4,
    },
  },
  thresholds: {
    transfers_other: ['count==0'],
    transfers_leftover: ['count==0'],
    checks: ['rate==1'],
  },
  summaryTrendStats: ['min', 'med', 'p(95)', 'p(99)', 'max'],
  setupTimeout: '5m',
  teardownTimeout: `${FINAL_WITHIN_S + 60}s`,
};

http.setResponseCallback(http.expectedStatuses(200, 202, 503));

export function setup() {
  const run = `overload-${Date.now().toString(36)}`;
  const accounts = Array.from({ length: ACCOUNTS }, (_, n) => ({
    id: account(run, n),
    currency: 'USD',
    overdraft_limit: OVERDRAFT,
  }));
  for (let from = 0; from < accounts.length; from += BATCH) {
    const answer = post('/v1/accounts/batch', { accounts: accounts.slice(from, from + BATCH) });
    if (answer.status !== 200) fail(`accounts: ${answer.status} ${answer.body}`);
  }
  return { run };
}

export default function ({ run }) {
  const request = exec.scenario.iterationInTest;
  const transfers = Array.from({ length: PER_REQUEST }, (_, n) => {
    const source = Math.floor(Math.random() * ACCOUNTS);
    const away = 1 + Math.floor(Math.random() * (ACCOUNTS - 1));
    return {
      idempotency_key: `${run}-${request}-${n}`,
      source: account(run, source),
      destination: account(run, (source + away) % ACCOUNTS),
      amount: '0.01',
      currency: 'USD',
    };
  });
  const answer = post('/v1/transfers/batch', { transfers });
  if (answer.status === 503) {
    told(answer, answer.json('code'), PER_REQUEST);
    return;
  }
  if (answer.status !== 200) {
    other.add(PER_REQUEST);
    return;
  }
  const results = answer.json('results');
  const [done, later] = [202, 503].map((status) => results.filter((one) => one.status === status));
  const overloaded = later.filter((one) => one.error.code === 'overloaded');
  accepted.add(done.length);
  refused.add(overloaded.length);
  other.add(PER_REQUEST - done.length - overloaded.length);
  if (done.length > 0) acceptLatency.add(answer.timings.duration);
  else refusalLatency.add(answer.timings.duration);
}

// Everything that was accepted ends, by itself.
export function teardown({ run }) {
  const began = Date.now();
  let open = Array.from({ length: ACCOUNTS }, (_, n) => account(run, n));
  while (open.length > 0 && Date.now() - began < FINAL_WITHIN_S * 1000) {
    open = open.filter((id) => ['requested', 'held'].some((status) => unfinished(id, status)));
    if (open.length > 0) sleep(1);
  }
  leftover.add(open.length);
  drained.add((Date.now() - began) / 1000);
}

function told(answer, code, transfers) {
  refusalLatency.add(answer.timings.duration);
  check(answer, { 'refused: says when to come again': (r) => Number(r.headers['Retry-After']) > 0 });
  if (code === 'overloaded') refused.add(transfers);
  else other.add(transfers);
}

function unfinished(id, status) {
  const answer = http.get(`${BASE_URL}/v1/accounts/${id}/transfers?direction=out&limit=1&status=${status}`, {
    tags: { name: 'unfinished' },
  });
  return answer.status !== 200 || answer.json('data').length > 0;
}

function account(run, n) {
  return `${run}-${n}`;
}

function post(path, body) {
  return http.post(`${BASE_URL}${path}`, JSON.stringify(body), {
    headers: { 'Content-Type': 'application/json' },
    tags: { name: path },
    timeout: '30s',
  });
}
