import { z } from 'zod';
import { printable } from '../base/text.ts';
import { type Challenge, parseChallenges } from './challenge.ts';
import type { Credentials } from './credentials.ts';
import type { HttpRequest, HttpResponse } from './http.ts';
import { readBody } from './http.ts';
import { denied, protocolError } from './registryErrors.ts';

const maxTokenBytes = 1024 * 1024;
const defaultLifeMs = 60_000;
/** A token that is about to expire would fail on the way. */
const marginMs = 5000;

const tokenSchema = z.object({
  token: z.string().nullish(),
  access_token: z.string().nullish(),
  expires_in: z.number().nonnegative().nullish(),
});

export interface RegistryAuthDeps {
  readonly host: string;
  readonly credentials: Credentials | undefined;
  /** Credentials and tokens may go over plain http. */
  readonly insecure: boolean;
  readonly nowMs: () => number;
  /** Patient (retries, redirects) exchange without authorization of its own. */
  readonly send: (request: HttpRequest, signal: AbortSignal) => Promise<HttpResponse>;
}

/** Knows the `Authorization` header for a repository, once a server has said what it wants. */
export interface RegistryAuth {
  /** What worked last for `scope`, if it is still good. */
  headerFor(scope: string): string | undefined;
  /** Answers a 401: the header to try again with. @throws HrunError REGISTRY_DENIED, REGISTRY_PROTOCOL */
  answer(header: string | undefined, scope: string, signal: AbortSignal): Promise<string>;
}

export function createRegistryAuth(deps: RegistryAuthDeps): RegistryAuth {
  const { host, credentials } = deps;
  const known = new Map<string, { readonly header: string; readonly expiresMs: number }>();

  return {
    headerFor: (scope) => {
      const entry = known.get(scope);
      return entry !== undefined && entry.expiresMs > deps.nowMs() ? entry.header : undefined;
    },
    answer: async (header, scope, signal) => {
      const challenges = parseChallenges(header ?? '');
      const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
      if (bearer !== undefined) {
        const { token, lifeMs } = await fetchToken(bearer, scope, deps, signal);
        const entry = { header: `Bearer ${token}`, expiresMs: deps.nowMs() + lifeMs - marginMs };
        known.set(scope, entry);
        return entry.header;
      }
      if (challenges.some(({ scheme }) => scheme === 'basic')) {
        if (credentials === undefined) throw denied(host, 'asks for a user name and password');
        if (credentials.kind !== 'password')
          throw denied(host, 'asks for a password, but only a token is known');
        const entry = { header: basic(credentials), expiresMs: Number.POSITIVE_INFINITY };
        known.set(scope, entry);
        return entry.header;
      }
      const offered = challenges.map(({ scheme }) => scheme).join(', ');
      throw protocolError(
        host,
        offered === ''
          ? 'denies access without saying how to get it'
          : `wants ${printable(offered)}, which is unknown`,
      );
    },
  };
}

async function fetchToken(
  challenge: Challenge,
  scope: string,
  deps: RegistryAuthDeps,
  signal: AbortSignal,
): Promise<{ readonly token: string; readonly lifeMs: number }> {
  const { host, credentials } = deps;
  const realm = realmOf(challenge, deps);
  const service = challenge.parameters.get('service');
  const response = await deps.send(tokenRequest(realm, service, scope, credentials), signal);
  const body = await readBody(response, maxTokenBytes, signal);
  if (response.status === 401 || response.status === 403 || response.status === 400) {
    throw denied(
      host,
      credentials === undefined
        ? 'gives anonymous users no access'
        : 'does not accept the stored credentials',
    );
  }
  if (response.status !== 200 || body === undefined) {
    throw protocolError(host, `got no token from ${realm.host}: status ${response.status}`);
  }
  let json: unknown;
  try {
    json = JSON.parse(body.toString('utf8'));
  } catch (cause) {
    throw protocolError(host, `got a token from ${realm.host} that is not JSON`, cause);
  }
  const parsed = tokenSchema.safeParse(json);
  const token = parsed.success ? parsed.data.token || parsed.data.access_token : undefined;
  // RFC 6750, 2.1; anything else could smuggle a header.
  if (!parsed.success || !token || !/^[A-Za-z0-9\-._~+/]+=*$/.test(token)) {
    throw protocolError(host, `got an answer without a usable token from ${realm.host}`);
  }
  const lifeS = parsed.data.expires_in;
  return { token, lifeMs: lifeS ? Math.min(lifeS, 86_400) * 1000 : defaultLifeMs };
}

function realmOf({ parameters }: Challenge, { host, insecure }: RegistryAuthDeps): URL {
  const text = parameters.get('realm') ?? '';
  if (!URL.canParse(text)) throw protocolError(host, 'names no place to get a token');
  const realm = new URL(text);
  if (realm.protocol !== 'https:' && !(insecure && realm.protocol === 'http:')) {
    throw protocolError(host, `wants the token fetched without encryption, from ${printable(realm.origin)}`);
  }
  return realm;
}

/** Distribution's token specification: a GET with basic auth, or with a refresh token the OAuth 2 POST. */
function tokenRequest(
  realm: URL,
  service: string | undefined,
  scope: string,
  credentials: Credentials | undefined,
): HttpRequest {
  if (credentials?.kind === 'identity-token') {
    const form = new URLSearchParams({
      grant_type: 'refresh_token',
      refresh_token: credentials.token,
      client_id: 'hrun',
      scope,
    });
    if (service !== undefined) form.set('service', service);
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    return { method: 'POST', url: realm, headers, body: form.toString() };
  }
  const url = new URL(realm);
  if (service !== undefined) url.searchParams.set('service', service);
  url.searchParams.set('scope', scope);
  if (credentials === undefined) return { method: 'GET', url, headers: {} };
  url.searchParams.set('account', credentials.username);
  return { method: 'GET', url, headers: { authorization: basic(credentials) } };
}

function basic({ username, password }: Credentials & { readonly kind: 'password' }): string {
  return `Basic ${Buffer.from(`${username}:${password}`, 'utf8').toString('base64')}`;
}
