// A moderate rate for a long time: nothing grows. Half-way latencies are kept apart from those of
// the end, and both are held to the same bound. Watch the process's memory beside it.
import exec from 'k6/execution';
import { Trend } from 'k6/metrics';
import { number } from './lib/api.js';
import { LEDGER_THRESHOLDS, close, open, pair, smallAmount } from './lib/ledger.js';
import { TRENDS, accepted, ended, transfer } from './lib/transfers.js';

const RATE = number('RATE', 200);
const ACCOUNTS = number('ACCOUNTS', 1000);
const WAITED = number('WAITED', 0.02); // share whose end is waited for
const P99_MS = number('P99_MS', 1000);

const [firstHalf, secondHalf] = ['first', 'second'].map((half) => new Trend(`end_latency_${half}_half`, true));

export const options = {
  scenarios: {
    soak: {
      executor: 'constant-arrival-rate',
      rate: RATE,
      timeUnit: '1s',
      duration: __ENV.DURATION || '1h',
      preAllocatedVUs: Math.max(20, Math.ceil(RATE / 4)),
      maxVUs: Math.max(100, RATE * 2),
    },
  },
  thresholds: {
    ...LEDGER_THRESHOLDS,
    http_req_failed: ['rate==0'],
    checks: ['rate>0.9999'],
    accept_latency: [`p(99)<${P99_MS}`],
    end_latency_first_half: [`p(99)<${2 * P99_MS}`],
    end_latency_second_half: [`p(99)<${2 * P99_MS}`],
  },
  summaryTrendStats: TRENDS,
  setupTimeout: '5m',
  teardownTimeout: '5m',
  batch: 50,
  batchPerHost: 50,
};

export function setup() {
  return { run: open('soak', ACCOUNTS) };
}

export default function ({ run }) {
  const key = `${run}-${exec.scenario.iterationInTest}`;
  const body = transfer(...pair(run, ACCOUNTS), smallAmount());
  if (Math.random() >= WAITED) {
    accepted(key, body);
    return;
  }
  const began = Date.now();
  ended(key, body, 'committed');
  (exec.scenario.progress < 0.5 ? firstHalf : secondHalf).add(Date.now() - began);
}

export function teardown({ run }) {
  close(run, ACCOUNTS, 30);
}
