// Three times what is sustainable, for a minute, without ever waiting for an answer before the next
// request is sent: how many are accepted, how many are told to come later, and whether every one
// that was accepted ends.
import exec from 'k6/execution';
import { check, fail } from 'k6';
import http from 'k6/http';
import { Counter, Trend } from 'k6/metrics';
import { field, number, post } from './lib/api.js';
import { LEDGER_THRESHOLDS, close, open, pair } from './lib/ledger.js';
import { TRENDS, transfer } from './lib/transfers.js';

const SUSTAINABLE = number('RATE', 1000); // transfers a second
const FACTOR = number('FACTOR', 3);
const ACCOUNTS = number('ACCOUNTS', 1000);
const PER_REQUEST = number('PER_REQUEST', 10); // transfers in one request
const FINAL_WITHIN_S = number('FINAL_WITHIN', 300);

const accepted = new Counter('transfers_accepted');
const refused = new Counter('transfers_refused');
const other = new Counter('transfers_other');
const acceptLatency = new Trend('batch_accept_latency', true);
const refusalLatency = new Trend('batch_refusal_latency', true);

const REQUESTS = Math.ceil((SUSTAINABLE * FACTOR) / PER_REQUEST);

export const options = {
  scenarios: {
    overload: {
      executor: 'constant-arrival-rate',
      rate: REQUESTS,
      timeUnit: '1s',
      duration: __ENV.DURATION || '60s',
      preAllocatedVUs: REQUESTS,
      maxVUs: REQUESTS * 4,
    },
  },
  thresholds: { ...LEDGER_THRESHOLDS, transfers_other: ['count==0'], checks: ['rate==1'] },
  summaryTrendStats: TRENDS,
  setupTimeout: '5m',
  teardownTimeout: `${FINAL_WITHIN_S + 60}s`,
  batch: 50,
  batchPerHost: 50,
};

http.setResponseCallback(http.expectedStatuses(200, 201, 202, 503));

export function setup() {
  if (PER_REQUEST < 1 || PER_REQUEST > 1000) fail('PER_REQUEST must be from 1 to 1000');
  return { run: open('stress', ACCOUNTS) };
}

export default function ({ run }) {
  const transfers = Array.from({ length: PER_REQUEST }, (_, n) => ({
    idempotency_key: `${run}-${exec.scenario.iterationInTest}-${n}`,
    ...transfer(...pair(run, ACCOUNTS), '0.01'),
  }));
  const answer = post('/v1/transfers/batch', { transfers });
  const results = field(answer, 'results');
  if (answer.status === 503) {
    told(answer);
  } else if (answer.status === 200 && Array.isArray(results)) {
    count(answer, results);
  } else {
    other.add(PER_REQUEST);
  }
}

// Everything that was accepted ends, by itself.
export function teardown({ run }) {
  close(run, ACCOUNTS, FINAL_WITHIN_S);
}

function count(answer, results) {
  const done = results.filter((one) => one.status === 202).length;
  const later = results.filter((one) => one.status === 503 && one.error.code === 'overloaded').length;
  accepted.add(done);
  refused.add(later);
  other.add(PER_REQUEST - done - later);
  (done > 0 ? acceptLatency : refusalLatency).add(answer.timings.duration);
}

function told(answer) {
  refusalLatency.add(answer.timings.duration);
  check(answer, { 'refused: says when to come again': (r) => Number(r.headers['Retry-After']) > 0 });
  (field(answer, 'code') === 'overloaded' ? refused : other).add(PER_REQUEST);
}
