// The calls that the scripts make, and how their answers are read.
import http from 'k6/http';
import { fail } from 'k6';

export const BASE_URL = (__ENV.BASE_URL || 'http://127.0.0.1:8080').replace(/\/+$/, '');
// The credential, where Holdfast asks for one: an API key of a principal that sees all accounts.
const WHO = __ENV.API_KEY ? { Authorization: `Bearer ${__ENV.API_KEY}` } : {};
export const CURRENCY = 'USD';

const MOST = 1000; // items of one batch call

// A number from the environment.
export function number(name, otherwise) {
  const value = Number(__ENV[name] || otherwise);
  if (!Number.isFinite(value)) throw new Error(`${name} must be a number, not '${__ENV[name]}'`);
  return value;
}

export function post(path, body, headers = {}) {
  return http.post(...request(path, body, headers).slice(1));
}

// For http.batch: the same as post, several at once.
export function request(path, body, headers = {}) {
  const params = { headers: { 'Content-Type': 'application/json', ...WHO, ...headers }, tags: { name: `POST ${path}` } };
  return ['POST', BASE_URL + path, JSON.stringify(body), params];
}

export function get(path, name) {
  return http.get(BASE_URL + path, { headers: WHO, tags: { name: name || `GET ${path}` } });
}

// Many at once, in the order of the paths.
export function getAll(paths, name) {
  return http.batch(paths.map((path) => ['GET', BASE_URL + path, null, { headers: WHO, tags: { name } }]));
}

// A field of an answer; undefined where it is no object.
export function field(answer, name) {
  try {
    return answer.json()[name];
  } catch {
    return undefined;
  }
}

// Sends items through a batch call. One that is answered otherwise than expected ends the run.
export function postAll(path, name, items, expected) {
  for (const some of chunks(items, MOST)) {
    const answer = post(path, { [name]: some });
    const list = field(answer, 'results');
    if (answer.status !== 200 || !Array.isArray(list) || list.length !== some.length) {
      fail(`${path} answered ${answer.status}: ${String(answer.body).slice(0, 300)}`);
    }
    const bad = list.find((result) => !expected.includes(result.status));
    if (bad) fail(`${path} refused an item: ${JSON.stringify(bad)}`);
  }
}

export function chunks(list, size) {
  return Array.from({ length: Math.ceil(list.length / size) }, (_, n) => list.slice(n * size, (n + 1) * size));
}
