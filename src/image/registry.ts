import { isIP } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { backoff } from '../base/backoff.ts';
import { errnoOf, HrunError, isHrunError } from '../base/errors.ts';
import type { Digest } from '../base/ids.ts';
import { maxManifestBytes, mediaTypes } from '../oci/imageManifest.ts';
import { sha256 } from './chain.ts';
import type { Credentials } from './credentials.ts';
import { type HttpClient, type HttpRequest, type HttpResponse, openHttpClient, readBody } from './http.ts';
import { createRegistryAuth } from './registryAuth.ts';
import { isBusy, isTransient, protocolError, statusError, unreachable } from './registryErrors.ts';

const maxAttempts = 5;
const maxRedirects = 5;
const maxErrorBytes = 65_536;
const maxRetryAfterMs = 30_000;
const acceptManifests = [
  mediaTypes.ociIndex,
  mediaTypes.dockerIndex,
  mediaTypes.ociManifest,
  mediaTypes.dockerManifest,
].join(', ');

export interface RegistryOptions {
  /** As references have it: `docker.io`, `localhost:5000`. */
  readonly domain: string;
  readonly credentials: Credentials | undefined;
  /** Accept plain http and any certificate. A registry on loopback always may. */
  readonly insecure: boolean;
  /** Proxy variables of the caller. */
  readonly environment: ReadonlyMap<string, string>;
  readonly idleTimeoutMs?: number;
  /** First pause between attempts. */
  readonly retryPauseMs?: number;
  /** A clock that nobody sets: how long a token is good is a duration. */
  readonly nowMs?: () => number;
}

export interface FetchedManifest {
  readonly bytes: Buffer;
  /** The Content-Type without parameters, if any. */
  readonly mediaType: string | undefined;
  readonly digest: Digest;
}

interface OpenedBlob {
  readonly response: HttpResponse;
  /** Where the body begins: the offset asked for, or 0 from a server without ranges. */
  readonly offset: number;
}

/**
 * A client of one registry (OCI distribution-spec, pull). Broken connections, 429 and 5xx are tried again; everything
 * else is reported at once: REGISTRY_UNREACHABLE, REGISTRY_DENIED, REGISTRY_PROTOCOL, IMAGE_UNKNOWN.
 */
export interface Registry extends Disposable {
  readonly host: string;
  /** `selector` is a tag or a digest; a digest is checked. */
  fetchManifest(path: string, selector: string, signal: AbortSignal): Promise<FetchedManifest>;
  /** Opens a blob at an offset; reading, checking and resuming it is the caller's. */
  openBlob(path: string, digest: Digest, offset: number, signal: AbortSignal): Promise<OpenedBlob>;
}

export function openRegistry(options: RegistryOptions): Registry {
  const host = options.domain === 'docker.io' ? 'registry-1.docker.io' : options.domain;
  const insecure = options.insecure || isLoopback(host);
  const client = openHttpClient({
    verifyCertificates: !insecure,
    idleTimeoutMs: options.idleTimeoutMs ?? 60_000,
    environment: options.environment,
  });
  const auth = createRegistryAuth({
    host: options.domain,
    credentials: options.credentials,
    insecure,
    nowMs: options.nowMs ?? (() => performance.now()),
    send: sendPatiently,
  });
  let base: Promise<URL> | undefined;

  /** An insecure registry may speak either; nothing secret is sent to find out. */
  async function probe(signal: AbortSignal): Promise<URL> {
    const secure = new URL(`https://${host}/`);
    if (!insecure) return secure;
    try {
      const response = await client.send(
        { method: 'GET', url: new URL('/v2/', secure), headers: {} },
        signal,
      );
      response.body.destroy();
      return secure;
    } catch (cause) {
      signal.throwIfAborted();
      const plain = new URL(`http://${host}/`);
      // The same port would refuse again.
      if (plain.port !== '' && errnoOf(cause) === 'ECONNREFUSED') throw unreachable(host, cause);
      return plain;
    }
  }

  async function baseUrl(signal: AbortSignal): Promise<URL> {
    base ??= probe(signal);
    try {
      return await base;
    } catch (cause) {
      base = undefined;
      throw cause;
    }
  }

  async function sendPatiently(request: HttpRequest, signal: AbortSignal): Promise<HttpResponse> {
    const pauses = backoff(options.retryPauseMs ?? 250, 8000);
    for (let attempt = 1; ; attempt += 1) {
      try {
        const response = await sendFollowing(client, request, { host, insecure }, signal);
        if (!isBusy(response.status) || attempt === maxAttempts) return response;
        response.body.destroy();
        await waitAsTold(response, signal);
      } catch (cause) {
        signal.throwIfAborted();
        if (isHrunError(cause)) throw cause;
        if (!isTransient(cause) || attempt === maxAttempts) throw unreachable(request.url.host, cause);
      }
      await pauses.pause(signal);
    }
  }

  async function get(
    path: string,
    resource: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<HttpResponse> {
    const url = new URL(`/v2/${path}/${resource}`, await baseUrl(signal));
    const scope = `repository:${path}:pull`;
    const known = auth.headerFor(scope);
    const attempt = (authorization: string | undefined) =>
      sendPatiently(
        {
          method: 'GET',
          url,
          headers: { ...headers, ...(authorization !== undefined && { authorization }) },
        },
        signal,
      );
    const response = await attempt(known);
    if (response.status !== 401) return response;
    response.body.destroy();
    return await attempt(await auth.answer(response.headers['www-authenticate'], scope, signal));
  }

  /** As `sendPatiently`, for a connection that breaks within the body. */
  async function readManifest(path: string, selector: string, subject: string, signal: AbortSignal) {
    const pauses = backoff(options.retryPauseMs ?? 250, 8000);
    for (let attempt = 1; ; attempt += 1) {
      const response = await get(path, `manifests/${selector}`, { accept: acceptManifests }, signal);
      if (response.status !== 200) throw await failure(host, subject, response, signal);
      try {
        const bytes = await readBody(response, maxManifestBytes, signal);
        if (bytes !== undefined) return { response, bytes };
      } catch (cause) {
        signal.throwIfAborted();
        if (!isTransient(cause) || attempt === maxAttempts) throw unreachable(host, cause);
        await pauses.pause(signal);
        continue;
      }
      throw protocolError(host, `sent a ${subject} longer than ${maxManifestBytes} bytes`);
    }
  }

  return {
    host,
    fetchManifest: async (path, selector, signal) => {
      const separator = selector.startsWith('sha256:') ? '@' : ':';
      const subject = `manifest ${path}${separator}${selector}`;
      const { response, bytes } = await readManifest(path, selector, subject, signal);
      const digest = sha256(bytes);
      const claimed = selector.startsWith('sha256:') ? selector : response.headers['docker-content-digest'];
      if (typeof claimed === 'string' && claimed.startsWith('sha256:') && claimed !== digest) {
        throw new HrunError(
          'DIGEST_MISMATCH',
          `${subject} from ${host} has digest ${digest}, not ${claimed.slice(0, 80)}`,
          {
            hint: 'the registry or something on the way changed it',
          },
        );
      }
      return {
        bytes,
        digest,
        mediaType: response.headers['content-type']?.split(';')[0]?.trim().toLowerCase(),
      };
    },
    openBlob: async (path, digest, offset, signal) => {
      const subject = `blob ${digest} of ${path}`;
      const headers = { accept: '*/*', ...(offset > 0 && { range: `bytes=${offset}-` }) };
      const response = await get(path, `blobs/${digest}`, headers, signal);
      if (response.status === 416 && offset > 0) {
        response.body.destroy();
        const whole = await get(path, `blobs/${digest}`, { accept: '*/*' }, signal);
        if (whole.status !== 200) throw await failure(host, subject, whole, signal);
        return { response: whole, offset: 0 };
      }
      if (response.status === 200) return { response, offset: 0 };
      if (response.status !== 206) throw await failure(host, subject, response, signal);
      const start = /^bytes (\d{1,15})-/.exec(response.headers['content-range'] ?? '')?.[1];
      if (Number(start) !== offset) {
        response.body.destroy();
        throw protocolError(host, `sent another range of ${subject} than asked for`);
      }
      return { response, offset };
    },
    [Symbol.dispose]: () => client[Symbol.dispose](),
  };
}

/** True for `localhost` and loopback addresses, with or without a port. */
function isLoopback(host: string): boolean {
  const name = new URL(`http://${host}/`).hostname.replace(/^\[(.*)\]$/, '$1');
  return name === 'localhost' || name === '::1' || (isIP(name) === 4 && name.startsWith('127.'));
}

async function sendFollowing(
  client: HttpClient,
  first: HttpRequest,
  { host, insecure }: { readonly host: string; readonly insecure: boolean },
  signal: AbortSignal,
): Promise<HttpResponse> {
  let request = first;
  for (let redirects = 0; ; redirects += 1) {
    const response = await client.send(request, signal);
    const { location } = response.headers;
    if (![301, 302, 303, 307, 308].includes(response.status) || location === undefined) return response;
    response.body.destroy();
    if (redirects === maxRedirects || request.method !== 'GET')
      throw protocolError(host, 'redirects too often');
    if (!URL.canParse(location, request.url.href)) throw protocolError(host, 'redirects to nowhere');
    const url = new URL(location, request.url);
    if (url.protocol !== 'https:' && !(insecure && url.protocol === 'http:')) {
      throw protocolError(host, `redirects to ${url.protocol}//, which is not encrypted`);
    }
    const { authorization, ...headers } = request.headers;
    // A storage host must not learn the registry's credentials.
    const keep = url.origin === request.url.origin && authorization !== undefined;
    request = { method: 'GET', url, headers: { ...headers, ...(keep && { authorization }) } };
  }
}

async function waitAsTold(response: HttpResponse, signal: AbortSignal): Promise<void> {
  const seconds = Number(response.headers['retry-after']);
  if (!(seconds > 0)) return;
  await sleep(Math.min(seconds * 1000, maxRetryAfterMs), undefined, { signal }).catch(() => {
    throw signal.reason;
  });
}

async function failure(
  host: string,
  subject: string,
  response: HttpResponse,
  signal: AbortSignal,
): Promise<HrunError> {
  const body = await readBody(response, maxErrorBytes, signal).catch(() => undefined);
  return statusError(host, subject, response, body);
}
