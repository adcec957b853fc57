// Every transfer is asked for several times at once, under one key, and once more with another
// amount. It is made once: the ids are the same, one answer is the first, the money moves once.
import exec from 'k6/execution';
import http from 'k6/http';
import { check } from 'k6';
import { field, get, number, request } from './lib/api.js';
import { FUNDS, LEDGER_THRESHOLDS, close, customer, open } from './lib/ledger.js';
import { TRENDS, transfer } from './lib/transfers.js';

const RATE = number('RATE', 20);
const COPIES = number('COPIES', 5);
const ACCOUNTS = number('ACCOUNTS', 200);

const AMOUNT = '0.01';

export const options = {
  scenarios: {
    transfers: {
      executor: 'constant-arrival-rate',
      rate: RATE,
      timeUnit: '1s',
      duration: __ENV.DURATION || '30s',
      preAllocatedVUs: Math.max(20, RATE),
      maxVUs: Math.max(100, RATE * 10),
    },
  },
  thresholds: { ...LEDGER_THRESHOLDS, checks: ['rate==1'] },
  summaryTrendStats: TRENDS,
  setupTimeout: '5m',
  teardownTimeout: '2m',
  batch: 50,
  batchPerHost: 50,
};

http.setResponseCallback(http.expectedStatuses(200, 202, 422));

export function setup() {
  return { run: open('duplicates', ACCOUNTS) };
}

export default function ({ run }) {
  // Each account pays the next one, by turns.
  const n = exec.scenario.iterationInTest;
  const body = transfer(customer(run, n % ACCOUNTS), customer(run, (n + 1) % ACCOUNTS), AMOUNT);
  const asked = () => request('/v1/transfers', body, { 'Idempotency-Key': `${run}-${n}` });
  const answers = http.batch(Array.from({ length: COPIES }, asked));
  const ids = new Set(answers.map((answer) => field(answer, 'id')));
  const fresh = answers.filter((answer) => answer.status === 202 && !answer.headers['Idempotent-Replayed']);
  check(answers, {
    'copies: all are answered': (all) => all.every((answer) => [200, 202].includes(answer.status)),
    'copies: one transfer': () => ids.size === 1 && !ids.has(undefined),
    'copies: one of them is the first': () => fresh.length === 1,
  });
  const [other] = http.batch([request('/v1/transfers', { ...body, amount: '0.02' }, { 'Idempotency-Key': `${run}-${n}` })]);
  check(other, { 'another request with the key: 422': (r) => r.status === 422 });
}

export function teardown({ run }) {
  close(run, ACCOUNTS, 30);
  paidOnce(run);
}

// What an account has paid is a cent for each time that it was its turn; its entries tell.
function paidOnce(run) {
  const account = customer(run, 0);
  const entries = field(get(`/v1/accounts/${account}/entries?limit=500`, 'entries'), 'data');
  const debits = entries.filter((entry) => entry.direction === 'debit');
  const transfers = new Set(entries.map((entry) => `${entry.transfer_id} ${entry.direction}`));
  check(entries, {
    'entries: each transfer once': () => transfers.size === entries.length,
    'entries: a cent each': () => debits.every((entry) => entry.amount === AMOUNT),
  });
  const balance = field(get(`/v1/accounts/${account}/balance?consistency=strong`, 'strong balance'), 'posted');
  const credits = entries.filter((entry) => entry.direction === 'credit' && entry.amount === AMOUNT).length;
  const expected = (FUNDS * 100 + credits - debits.length) / 100;
  check(balance, { 'balance: what the entries say': () => Number(balance) === expected });
}
