// One account that a share of all transfers is paid to, or comes from. It does not hold up the
// others: those are held to a bound of their own.
import exec from 'k6/execution';
import { Trend } from 'k6/metrics';
import { number } from './lib/api.js';
import { LEDGER_THRESHOLDS, close, customer, open, pair, smallAmount } from './lib/ledger.js';
import { TRENDS, ended, transfer } from './lib/transfers.js';

const RATE = number('RATE', 200);
const ACCOUNTS = number('ACCOUNTS', 1000);
const SHARE = number('SHARE', 0.5);
const HOT = __ENV.HOT || 'destination';
const P99_MS = number('P99_MS', 2000);

if (!['source', 'destination'].includes(HOT)) throw new Error('HOT must be source or destination');

const [ofHot, ofOthers] = ['hot', 'others'].map((who) => new Trend(`end_latency_${who}`, true));

export const options = {
  scenarios: {
    transfers: {
      executor: 'constant-arrival-rate',
      rate: RATE,
      timeUnit: '1s',
      duration: __ENV.DURATION || '60s',
      preAllocatedVUs: Math.max(50, RATE),
      maxVUs: Math.max(200, RATE * 4),
    },
  },
  thresholds: {
    ...LEDGER_THRESHOLDS,
    http_req_failed: ['rate==0'],
    checks: ['rate==1'],
    end_latency_hot: [`p(99)<${P99_MS}`],
    end_latency_others: [`p(99)<${P99_MS}`],
  },
  summaryTrendStats: TRENDS,
  setupTimeout: '5m',
  teardownTimeout: '2m',
  batch: 50,
  batchPerHost: 50,
};

export function setup() {
  return { run: open('hot', ACCOUNTS) };
}

export default function ({ run }) {
  const hot = Math.random() < SHARE;
  const [source, destination] = hot ? touching(run) : pair(run, ACCOUNTS);
  const amount = hot ? '0.01' : smallAmount(); // so that the hot source has enough for 100,000
  const began = Date.now();
  ended(`${run}-${exec.scenario.iterationInTest}`, transfer(source, destination, amount), 'committed');
  (hot ? ofHot : ofOthers).add(Date.now() - began);
}

export function teardown({ run }) {
  close(run, ACCOUNTS, 30);
}

// Account 0 is the hot one.
function touching(run) {
  const other = customer(run, 1 + Math.floor(Math.random() * (ACCOUNTS - 1)));
  return HOT === 'source' ? [customer(run, 0), other] : [other, customer(run, 0)];
}
