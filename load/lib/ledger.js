// A ledger for one run: accounts of its own, funded from one account outside, and what must be true
// of them in the end. Virtual users share no memory, so everything is asked of Holdfast.
import { fail, sleep } from 'k6';
import { Counter } from 'k6/metrics';
import { CURRENCY, chunks, field, getAll, postAll } from './api.js';

export const FUNDS = 1000; // of each account at the start

const FUNDED_WITHIN_S = 120;
const AT_ONCE = 100; // requests

const leftoverTransfers = new Counter('leftover_transfers');
const unbalancedCents = new Counter('unbalanced_cents');

// Of every script: nothing is left over and no cent is lost or made.
export const LEDGER_THRESHOLDS = {
  leftover_transfers: ['count==0'],
  unbalanced_cents: ['count==0'],
};

export function customer(run, n) {
  return `${run}-${n}`;
}

export function external(run) {
  return `${run}-external`;
}

// Makes the accounts and funds them; returns what the names of this run begin with.
export function open(name, accounts) {
  if (accounts < 2) fail('ACCOUNTS must be at least 2');
  const run = `${name}-${Date.now().toString(36)}`;
  const customers = Array.from({ length: accounts }, (_, n) => customer(run, n));
  postAll('/v1/accounts/batch', 'accounts', [
    { id: external(run), currency: CURRENCY, kind: 'external' },
    ...customers.map((id) => ({ id, currency: CURRENCY })),
  ], [200, 201]);
  const funding = customers.map((destination) => ({
    idempotency_key: `${run}-fund-${destination}`,
    source: external(run),
    destination,
    amount: FUNDS.toFixed(2),
    currency: CURRENCY,
  }));
  postAll('/v1/transfers/batch', 'transfers', funding, [200, 202]);
  awaitFunds(customers);
  return run;
}

function awaitFunds(customers) {
  const deadline = Date.now() + FUNDED_WITHIN_S * 1000;
  let waiting = customers;
  while (waiting.length > 0) {
    if (Date.now() > deadline) fail(`${waiting[0]} was not funded within ${FUNDED_WITHIN_S} s`);
    const some = waiting.slice(0, AT_ONCE);
    const left = balances(some).flatMap((balance, n) => (Number(field(balance, 'available')) === FUNDS ? [] : [some[n]]));
    waiting = left.concat(waiting.slice(AT_ONCE));
    if (left.length > 0) sleep(0.2);
  }
}

function balances(accounts) {
  return getAll(accounts.map((id) => `/v1/accounts/${id}/balance?consistency=strong`), 'strong balance');
}

// Two different accounts.
export function pair(run, accounts) {
  const source = Math.floor(Math.random() * accounts);
  const step = 1 + Math.floor(Math.random() * (accounts - 1));
  return [customer(run, source), customer(run, (source + step) % accounts)];
}

// At most 1.00, so that no account runs dry by chance.
export function smallAmount() {
  return ((1 + Math.floor(Math.random() * 100)) / 100).toFixed(2);
}

// Waits for the ends of everything, then counts what is left and what does not add up.
export function close(run, accounts, withinSeconds) {
  const deadline = Date.now() + withinSeconds * 1000;
  const all = [external(run), ...Array.from({ length: accounts }, (_, n) => customer(run, n))];
  let open = unfinished(all);
  while (open.length > 0 && Date.now() < deadline) {
    sleep(0.2);
    open = unfinished(open);
  }
  leftoverTransfers.add(open.length);
  unbalancedCents.add(Math.abs(sum(all)));
}

// The accounts that pay for a transfer which is not final. An answer that is no list counts as one.
function unfinished(accounts) {
  return chunks(accounts, AT_ONCE).flatMap((some) => {
    const lists = ['requested', 'held'].map((status) =>
      getAll(some.map((id) => `/v1/accounts/${id}/transfers?direction=out&limit=1&status=${status}`), 'unfinished'));
    return some.filter((_, n) => lists.some((list) => !isEmpty(list[n])));
  });
}

function isEmpty(answer) {
  const data = field(answer, 'data');
  return Array.isArray(data) && data.length === 0;
}

// All that the accounts have, in cents: what the account outside owes is what the others have.
function sum(accounts) {
  return chunks(accounts, AT_ONCE)
    .flatMap((some) => balances(some))
    .reduce((cents, answer) => cents + Math.round(Number(field(answer, 'posted')) * 100), 0);
}
