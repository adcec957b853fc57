// A steady rate, ten times that for a moment, the steady rate again. The spike may be told to come
// later; before it and once it is over, everybody is served as if there had been none.
import exec from 'k6/execution';
import { number } from './lib/api.js';
import { LEDGER_THRESHOLDS, close, open, pair, smallAmount } from './lib/ledger.js';
import { TRENDS, acceptedOrTold, transfer } from './lib/transfers.js';

const RATE = number('RATE', 100);
const FACTOR = number('FACTOR', 10);
const ACCOUNTS = number('ACCOUNTS', 1000);
const BEFORE_S = number('BEFORE', 20);
const SPIKE_S = number('SPIKE', 10);
const REST_S = number('REST', 20); // after the spike, before it is judged again
const AFTER_S = number('AFTER', 20);
const P99_MS = number('P99_MS', 1000);

function stretch(rate, from, seconds) {
  return {
    executor: 'constant-arrival-rate',
    rate,
    timeUnit: '1s',
    startTime: `${from}s`,
    duration: `${seconds}s`,
    preAllocatedVUs: Math.max(20, Math.ceil(rate / 4)),
    maxVUs: Math.max(100, rate * 4),
  };
}

export const options = {
  scenarios: {
    before: stretch(RATE, 0, BEFORE_S),
    spike: stretch(RATE * FACTOR, BEFORE_S, SPIKE_S),
    rest: stretch(RATE, BEFORE_S + SPIKE_S, REST_S),
    after: stretch(RATE, BEFORE_S + SPIKE_S + REST_S, AFTER_S),
  },
  thresholds: {
    ...LEDGER_THRESHOLDS,
    transfers_otherwise: ['count==0'],
    'transfers_overloaded{scenario:before}': ['count==0'],
    'transfers_overloaded{scenario:after}': ['count==0'],
    'accept_latency{scenario:before}': [`p(99)<${P99_MS}`],
    'accept_latency{scenario:after}': [`p(99)<${P99_MS}`],
  },
  summaryTrendStats: TRENDS,
  setupTimeout: '5m',
  teardownTimeout: '5m',
  batch: 50,
  batchPerHost: 50,
};

export function setup() {
  return { run: open('spike', ACCOUNTS) };
}

export default function ({ run }) {
  const key = `${run}-${exec.scenario.name}-${exec.scenario.iterationInTest}`;
  acceptedOrTold(key, transfer(...pair(run, ACCOUNTS), smallAmount()));
}

export function teardown({ run }) {
  close(run, ACCOUNTS, 120);
}
