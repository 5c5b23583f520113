import {
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';

export interface HttpRequest {
  readonly method: 'GET' | 'POST';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
}

export interface HttpResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Where it came from, after redirects. */
  readonly url: URL;
  /** To be read to its end or destroyed. Bytes as they are on the wire: no content encoding is undone. */
  readonly body: IncomingMessage;
}

export interface HttpOptions {
  /** False accepts any certificate. */
  readonly verifyCertificates: boolean;
  /** No byte for this long is a failure, connecting included. */
  readonly idleTimeoutMs: number;
  /** HTTPS_PROXY, HTTP_PROXY, NO_PROXY and their lower-case twins, as the caller has them. */
  readonly environment: ReadonlyMap<string, string>;
}

export interface HttpClient extends Disposable {
  /** One exchange, redirects not followed. Rejects with the system's error, or with the reason of `signal`. */
  send(request: HttpRequest, signal: AbortSignal): Promise<HttpResponse>;
}

const proxyVariables = ['HTTPS_PROXY', 'HTTP_PROXY', 'NO_PROXY', 'https_proxy', 'http_proxy', 'no_proxy'];

/**
 * node:http rather than fetch, because a registry client needs what fetch lacks: bytes without content decoding (the
 * digest is of what was sent), certificates and proxies per client, redirects in sight, a time-out on silence.
 */
export function openHttpClient(options: HttpOptions): HttpClient {
  const proxyEnv = Object.fromEntries(
    proxyVariables
      .map((name) => [name, options.environment.get(name)])
      .filter(([, value]) => value !== undefined),
  );
  const common = { keepAlive: true, maxSockets: 8, proxyEnv };
  const httpAgent = new HttpAgent(common);
  const httpsAgent = new HttpsAgent({ ...common, rejectUnauthorized: options.verifyCertificates });

  return {
    send: ({ method, url, headers, body }, signal) => {
      const { promise, resolve, reject } = Promise.withResolvers<HttpResponse>();
      const request =
        url.protocol === 'https:'
          ? httpsRequest(url, { method, headers, signal, agent: httpsAgent })
          : httpRequest(url, { method, headers, signal, agent: httpAgent });
      request.setTimeout(options.idleTimeoutMs, () => request.destroy(new SilentPeer(options.idleTimeoutMs)));
      request.once('error', (error) => reject(signal.aborted ? signal.reason : error));
      request.once('response', (response) => {
        // A failure after this shows when the body is read; without a reader it must not end the process.
        response.on('error', () => {});
        resolve({ status: response.statusCode ?? 0, headers: response.headers, url, body: response });
      });
      request.end(body);
      return promise;
    },
    [Symbol.dispose]: () => {
      httpAgent.destroy();
      httpsAgent.destroy();
    },
  };
}

class SilentPeer extends Error {
  readonly code = 'ETIMEDOUT';

  constructor(idleTimeoutMs: number) {
    super(`no answer for ${idleTimeoutMs / 1000} s`);
  }
}

/** The whole body, or undefined (and the exchange cut off) when it is longer than `maxBytes`. */
export async function readBody(
  response: HttpResponse,
  maxBytes: number,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of bodyOf(response)) {
      length += chunk.length;
      if (length > maxBytes) return undefined;
      chunks.push(chunk);
    }
  } catch (cause) {
    signal.throwIfAborted();
    throw cause;
  }
  return Buffer.concat(chunks);
}

/** The body as chunks; leaving the loop early destroys the connection. */
export async function* bodyOf(response: HttpResponse): AsyncGenerator<Buffer> {
  for await (const chunk of response.body) {
    if (Buffer.isBuffer(chunk)) yield chunk;
  }
}
