// Transfers at a constant rate between funded accounts, some of them repeated, some refused.
import exec from 'k6/execution';
import { number } from './lib/api.js';
import { FUNDS, LEDGER_THRESHOLDS, close, open, pair, smallAmount } from './lib/ledger.js';
import { TRENDS, accepted, ended, repeated, transfer } from './lib/transfers.js';

const RATE = number('RATE', 300);
const ACCOUNTS = number('ACCOUNTS', 1000);
const DUPLICATES = number('DUPLICATES', 0.05);
const OVERDRAFTS = number('OVERDRAFTS', 0.05);
const P99_MS = number('P99_MS', 1000);

const MORE_THAN_ALL = (FUNDS * ACCOUNTS + 1).toFixed(2);

export const options = {
  scenarios: {
    transfers: {
      executor: 'constant-arrival-rate',
      rate: RATE,
      timeUnit: '1s',
      duration: __ENV.DURATION || '60s',
      preAllocatedVUs: Math.max(20, Math.ceil(RATE / 4)),
      maxVUs: Math.max(100, RATE * 2),
    },
  },
  thresholds: {
    ...LEDGER_THRESHOLDS,
    http_req_failed: ['rate==0'],
    checks: ['rate>0.999'],
    accept_latency: [`p(99)<${P99_MS}`],
  },
  summaryTrendStats: TRENDS,
  setupTimeout: '5m',
  teardownTimeout: '2m',
  batch: 50,
  batchPerHost: 50,
};

export function setup() {
  return { run: open('steady', ACCOUNTS) };
}

export default function ({ run }) {
  const kind = Math.random();
  const key = `${run}-${exec.scenario.iterationInTest}`;
  const [source, destination] = pair(run, ACCOUNTS);
  if (kind < OVERDRAFTS) {
    ended(key, transfer(source, destination, MORE_THAN_ALL), 'rejected', 'insufficient_funds');
    return;
  }
  const body = transfer(source, destination, smallAmount());
  const id = accepted(key, body);
  if (kind < OVERDRAFTS + DUPLICATES) repeated(key, body, id);
}

export function teardown({ run }) {
  close(run, ACCOUNTS, 10);
}
