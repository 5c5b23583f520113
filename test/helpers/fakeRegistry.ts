import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { TestImage } from './images.ts';
import { startHttp, type TestRegistry } from './registry.ts';

export interface FakeRegistry extends TestRegistry {
  /** `METHOD path range` of every request, in order. */
  readonly requests: readonly string[];
  /** From now on CONNECT, which is how a proxy is asked for TLS, is noted and refused. */
  refuseTunnels(): void;
}

export interface FakeContent {
  /** Images by `path:tag`, with all their blobs; or an index given as bytes with its media type. */
  readonly tags: ReadonlyMap<string, { readonly bytes: Uint8Array; readonly mediaType: string }>;
  readonly blobs: ReadonlyMap<string, Uint8Array>;
}

/** Sees a request first; true when it has answered. */
export type Intercept = (request: IncomingMessage, response: ServerResponse) => boolean;

/** One image as the content of a registry. */
export function contentOf(image: TestImage, name = 'team/app:v1'): FakeContent {
  const bytes = image.blobs.get(image.manifest.digest) ?? new Uint8Array();
  return { tags: new Map([[name, { bytes, mediaType: image.manifest.mediaType }]]), blobs: image.blobs };
}

/** A registry that can be made to misbehave. */
export async function startFakeRegistry(
  content: FakeContent,
  intercept: Intercept = () => false,
  tls?: { readonly key: Buffer; readonly cert: Buffer },
): Promise<FakeRegistry> {
  const requests: string[] = [];
  const listener: RequestListener = (request, response) => {
    requests.push(
      [request.method, request.url, request.headers.range].filter((part) => part !== undefined).join(' '),
    );
    if (intercept(request, response)) return;
    const url = request.url ?? '';
    const manifest = /^\/v2\/(.+)\/manifests\/(.+)$/.exec(url);
    const blob = /^\/v2\/.+\/blobs\/(.+)$/.exec(url);
    if (url === '/v2/') {
      response.end('{}');
    } else if (manifest !== null) {
      sendManifest(content, `${manifest[1]}`, `${manifest[2]}`, response);
    } else {
      sendBlob(content.blobs.get(`${blob?.[1]}`), request.headers.range, response);
    }
  };
  const base = await startHttp(listener, tls);
  const refuseTunnels = () => {
    base.server.on('connect', (request: IncomingMessage, socket: Socket) => {
      requests.push(`CONNECT ${request.url}`);
      socket.end('HTTP/1.1 403 Forbidden\r\n\r\n');
    });
  };
  return { ...base, requests, refuseTunnels };
}

function sendManifest(content: FakeContent, path: string, selector: string, response: ServerResponse): void {
  const tagged = content.tags.get(`${path}:${selector}`);
  const stored = content.blobs.get(selector);
  if (tagged !== undefined) {
    response.setHeader('content-type', tagged.mediaType);
    response.end(tagged.bytes);
  } else if (stored !== undefined) {
    response.setHeader('content-type', JSON.parse(Buffer.from(stored).toString()).mediaType);
    response.end(stored);
  } else {
    response.statusCode = 404;
    response.end(JSON.stringify({ errors: [{ code: 'MANIFEST_UNKNOWN', message: 'manifest unknown' }] }));
  }
}

function sendBlob(bytes: Uint8Array | undefined, range: string | undefined, response: ServerResponse): void {
  if (bytes === undefined) {
    response.statusCode = 404;
    response.end();
    return;
  }
  const start = Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0);
  if (start > 0 && start >= bytes.length) {
    response.statusCode = 416;
    response.end();
    return;
  }
  if (range !== undefined) {
    response.statusCode = 206;
    response.setHeader('content-range', `bytes ${start}-${bytes.length - 1}/${bytes.length}`);
  }
  response.setHeader('content-length', bytes.length - start);
  response.end(bytes.subarray(start));
}
