import { spawn } from 'node:child_process';
import { z } from 'zod';
import { errnoOf, HrunError, messageOf } from '../base/errors.ts';
import { printable } from '../base/text.ts';

export type Credentials =
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  /** An OAuth refresh token, as `docker login` stores it for some registries. */
  | { readonly kind: 'identity-token'; readonly token: string };

/** Asks `docker-credential-NAME` for the credentials of a server: its answer's JSON, or undefined when it has none. */
export type CredentialHelper = (
  name: string,
  server: string,
  signal: AbortSignal,
) => Promise<string | undefined>;

const helperName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const maxHelperBytes = 65_536;
const helperTimeoutMs = 30_000;

const authSchema = z.object({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
});
const configSchema = z.object({
  auths: z.record(z.string(), authSchema).nullish(),
  credHelpers: z.record(z.string(), z.string()).nullish(),
  credsStore: z.string().nullish(),
});
const helperSchema = z.object({ Username: z.string(), Secret: z.string() });

/**
 * The credentials that a Docker configuration (the text of `~/.docker/config.json` or podman's `auth.json`) has for a
 * repository, or undefined. A helper named for the host goes first, then `credsStore`, then `auths`, in which the
 * longest matching `host/namespace` wins.
 * @throws HrunError INVALID_CONFIG for an unreadable configuration or a failing helper
 */
export async function findCredentials(
  configText: string,
  repository: { readonly domain: string; readonly path: string },
  runHelper: CredentialHelper,
  signal: AbortSignal,
): Promise<Credentials | undefined> {
  const config = parseConfig(configText);
  const keys = keysOf(repository);
  const helper = keys.map((key) => config.credHelpers?.[key]).find((name) => name !== undefined);
  const store = helper ?? (config.credsStore || undefined);
  if (store !== undefined) {
    const found = await askHelper(store, serverOf(repository.domain), runHelper, signal);
    if (found !== undefined) return found;
  }
  const auths = new Map(
    Object.entries(config.auths ?? {}).map(([key, value]) => [key.replace(/^https?:\/\//, ''), value]),
  );
  for (const key of keys) {
    const entry =
      auths.get(key) ?? auths.get(`${key}/`) ?? auths.get(`${key}/v1/`) ?? auths.get(`${key}/v2/`);
    const found = entry === undefined ? undefined : credentialsOf(entry, key);
    if (found !== undefined) return found;
  }
  return undefined;
}

/**
 * A helper that runs with the caller's environment (PATH, HOME, DBUS_SESSION_BUS_ADDRESS) as this user, without a
 * shell. It runs in the daemon's namespaces, not in the caller's.
 */
export function credentialHelperIn(environment: ReadonlyMap<string, string>): CredentialHelper {
  return async (name, server, signal) => {
    const bounded = AbortSignal.any([signal, AbortSignal.timeout(helperTimeoutMs)]);
    const child = spawn(`docker-credential-${name}`, ['get'], {
      env: Object.fromEntries(environment),
      stdio: ['pipe', 'pipe', 'ignore'],
      signal: bounded,
    });
    const done = Promise.withResolvers<number | null>();
    child.once('error', done.reject);
    child.once('close', done.resolve);
    // A helper that never reads its input is no failure of ours.
    child.stdin.on('error', () => {});
    child.stdin.end(server);
    const chunks: Buffer[] = [];
    let length = 0;
    child.stdout.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length > maxHelperBytes) child.kill('SIGKILL');
      else chunks.push(chunk);
    });
    const code = await done.promise;
    const output = Buffer.concat(chunks).toString('utf8');
    if (code === 0) return output;
    // The helper protocol reports "not found" on stdout and by status 1.
    if (/credentials not found/.test(output)) return undefined;
    throw new Error(output === '' ? `it ended with status ${code}` : printable(output.trim()));
  };
}

function parseConfig(text: string): z.infer<typeof configSchema> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new HrunError('INVALID_CONFIG', 'the Docker configuration is not JSON', {
      cause,
      hint: 'repair config.json in ~/.docker or $DOCKER_CONFIG',
    });
  }
  const parsed = configSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const where = parsed.error.issues[0]?.path.slice(0, 2).join('.') ?? '';
  throw new HrunError('INVALID_CONFIG', `the Docker configuration is wrong at ${printable(where)}`, {
    hint: 'repair config.json in ~/.docker or $DOCKER_CONFIG',
  });
}

/** `host/a/b`, `host/a`, `host`; Docker Hub goes by several names. */
function keysOf({ domain, path }: { readonly domain: string; readonly path: string }): readonly string[] {
  const parts = path.split('/');
  const namespaces = parts.map((_, index) => `${domain}/${parts.slice(0, parts.length - index).join('/')}`);
  const hub = domain === 'docker.io' ? ['index.docker.io', 'registry-1.docker.io'] : [];
  return [...namespaces, domain, ...hub];
}

function serverOf(domain: string): string {
  return domain === 'docker.io' ? 'https://index.docker.io/v1/' : domain;
}

async function askHelper(
  name: string,
  server: string,
  runHelper: CredentialHelper,
  signal: AbortSignal,
): Promise<Credentials | undefined> {
  if (!helperName.test(name)) {
    throw new HrunError('INVALID_CONFIG', `"${printable(name, 64)}" is not the name of a credential helper`);
  }
  let answer: string | undefined;
  try {
    answer = await runHelper(name, server, signal);
  } catch (cause) {
    signal.throwIfAborted();
    const why = errnoOf(cause) === 'ENOENT' ? 'it is not installed' : messageOf(cause);
    throw new HrunError('INVALID_CONFIG', `docker-credential-${name} failed: ${why}`, {
      cause,
      hint: 'install the helper, or remove it from config.json and log in again',
    });
  }
  if (answer === undefined) return undefined;
  const parsed = helperSchema.safeParse(safeJson(answer));
  if (!parsed.success) {
    throw new HrunError('INVALID_CONFIG', `docker-credential-${name} answered nonsense`);
  }
  const { Username: username, Secret: secret } = parsed.data;
  if (username === '<token>') return { kind: 'identity-token', token: secret };
  return { kind: 'password', username, password: secret };
}

function safeJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function credentialsOf(entry: z.infer<typeof authSchema>, key: string): Credentials | undefined {
  if (entry.identitytoken) return { kind: 'identity-token', token: entry.identitytoken };
  if (entry.auth) {
    const decoded = Buffer.from(entry.auth, 'base64').toString('utf8').replace(/\0+$/, '');
    const colon = decoded.indexOf(':');
    if (colon > 0) {
      return { kind: 'password', username: decoded.slice(0, colon), password: decoded.slice(colon + 1) };
    }
    throw new HrunError(
      'INVALID_CONFIG',
      `the Docker configuration has no user name in auths."${printable(key)}".auth`,
      {
        hint: `log in again: docker login ${printable(key)}`,
      },
    );
  }
  if (entry.username && entry.password !== undefined) {
    return { kind: 'password', username: entry.username, password: entry.password };
  }
  return undefined;
}
