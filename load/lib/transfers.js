// Single transfers, sent and checked.
import http from 'k6/http';
import { check } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import { CURRENCY, field, post } from './api.js';

const WITHIN_S = 10; // of an end that is waited for

const acceptLatency = new Trend('accept_latency', true);
const endLatency = new Trend('end_latency', true);
const overloaded = new Counter('transfers_overloaded');
const otherwise = new Counter('transfers_otherwise');

export const TRENDS = ['min', 'med', 'p(95)', 'p(99)', 'max'];

export function transfer(source, destination, amount) {
  return { source, destination, amount, currency: CURRENCY };
}

// A new transfer, which is accepted at once; its id.
export function accepted(key, body) {
  const answer = post('/v1/transfers', body, { 'Idempotency-Key': key });
  acceptLatency.add(answer.timings.duration);
  check(answer, {
    'accepted: 202': (r) => r.status === 202,
    'accepted: has an id': (r) => Boolean(field(r, 'id')),
  });
  return field(answer, 'id');
}

// A new transfer, which may also be told to come later, as long as it is told properly.
export function acceptedOrTold(key, body) {
  const answer = post('/v1/transfers', body, { 'Idempotency-Key': key });
  if (answer.status === 202) {
    acceptLatency.add(answer.timings.duration);
  } else if (answer.status === 503 && field(answer, 'code') === 'overloaded') {
    overloaded.add(1);
    check(answer, { 'overloaded: says when to come again': (r) => Number(r.headers['Retry-After']) > 0 });
  } else {
    otherwise.add(1);
  }
}

// The same again: the same transfer, and the answer says so.
export function repeated(key, body, id) {
  const answer = post('/v1/transfers', body, { 'Idempotency-Key': key });
  check(answer, {
    'repeated: 200': (r) => r.status === 200,
    'repeated: the same id': (r) => field(r, 'id') === id,
    'repeated: says it is a replay': (r) => r.headers['Idempotent-Replayed'] === 'true',
  });
}

// Sends or repeats and waits for the end.
export function ended(key, body, status, reason = null) {
  const answer = post('/v1/transfers', body, { 'Idempotency-Key': key, Prefer: `wait=${WITHIN_S}` });
  endLatency.add(answer.timings.duration);
  check(answer, {
    'ended: in time': (r) => r.status === 200,
    [`ended: ${status}`]: (r) => field(r, 'status') === status,
    [`ended: for the reason ${reason}`]: (r) => field(r, 'reason') === reason,
  });
  return field(answer, 'id');
}

http.setResponseCallback(http.expectedStatuses(200, 201, 202));
