// Everything once, by one caller: does it work at all?
import { check } from 'k6';
import { field, get, number, post } from './lib/api.js';
import { FUNDS, LEDGER_THRESHOLDS, close, customer, open } from './lib/ledger.js';
import { TRENDS, accepted, ended, repeated, transfer } from './lib/transfers.js';
import http from 'k6/http';

const ACCOUNTS = 4;

export const options = {
  vus: 1,
  iterations: number('ITERATIONS', 3),
  thresholds: { ...LEDGER_THRESHOLDS, checks: ['rate==1'] },
  summaryTrendStats: TRENDS,
};

export function setup() {
  return { run: open('smoke', ACCOUNTS) };
}

export default function ({ run }) {
  const key = (name) => `${run}-${__ITER}-${name}`;
  const [one, two] = [customer(run, 0), customer(run, 1)];
  const paid = transfer(one, two, '10.00');
  const id = accepted(key('paid'), paid);
  repeated(key('paid'), paid, id);
  ended(key('paid'), paid, 'committed');
  ended(key('back'), transfer(two, one, '10.00'), 'committed');
  ended(key('too-much'), transfer(one, two, (FUNDS * ACCOUNTS + 1).toFixed(2)), 'rejected', 'insufficient_funds');
  ended(key('nobody'), transfer(one, `${run}-nobody`, '1.00'), 'rejected', 'destination_not_found');
  reads(one, id);
  refusals(key, paid);
}

export function teardown({ run }) {
  close(run, ACCOUNTS, 10);
}

function reads(account, id) {
  check(get('/readyz'), { 'ready: 200': (r) => r.status === 200 });
  check(get(`/v1/accounts/${account}/balance?consistency=strong`, 'strong balance'), {
    'balance: what it was': (r) => Number(field(r, 'posted')) === FUNDS,
  });
  check(get(`/v1/accounts/${account}/entries`, 'entries'), { 'entries: there are some': (r) => field(r, 'data').length > 0 });
  check(get(`/v1/transfers/${id}`, 'transfer'), { 'transfer: committed': (r) => field(r, 'status') === 'committed' });
  check(get(`/v1/transfers/${id}/timeline`, 'timeline'), { 'timeline: of several steps': (r) => field(r, 'data').length > 2 });
}

function refusals(key, paid) {
  const expected = { responseCallback: http.expectedStatuses(400, 404, 422) };
  const reused = post('/v1/transfers', { ...paid, amount: '10.01' }, { 'Idempotency-Key': key('paid') });
  check(reused, { 'another request with the key: 422': (r) => r.status === 422 });
  const malformed = post('/v1/transfers', { ...paid, amount: '1e3' }, { 'Idempotency-Key': key('bad') });
  check(malformed, { 'a bad amount: 400': (r) => r.status === 400 });
  const unknown = http.get(`${reused.request.url}/00000000-0000-7000-8000-000000000000`, expected);
  check(unknown, { 'no such transfer: 404': (r) => r.status === 404 });
}
