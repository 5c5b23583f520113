import { z } from 'zod';
import { errnoOf, HrunError, messageOf } from '../base/errors.ts';
import { printable } from '../base/text.ts';
import type { HttpResponse } from './http.ts';

const transientErrnos = ['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'EAI_AGAIN', 'ENETRESET', 'ECONNABORTED'];
const errorSchema = z.object({
  errors: z.array(z.object({ code: z.string().nullish(), message: z.string().nullish() })).min(1),
});

/** Whether trying again can help: a broken connection may work the next time, a refused one will not. */
export function isTransient(error: unknown): boolean {
  return flatten(error).some((one) => transientErrnos.includes(errnoOf(one) ?? ''));
}

/** Too many requests, or a server in trouble. */
export function isBusy(status: number): boolean {
  return status === 429 || (status >= 500 && status !== 501);
}

/** The connection could not be made, or broke. Certificates get a hint of their own. */
export function unreachable(host: string, cause: unknown): HrunError {
  const causes = flatten(cause);
  const reason = [...new Set(causes.map((one) => messageOf(one)).filter((text) => text !== ''))].join('; ');
  const certificate = causes.some((one) => isCertificateErrno(errnoOf(one) ?? ''));
  return new HrunError('REGISTRY_UNREACHABLE', `registry ${host} cannot be reached: ${printable(reason)}`, {
    cause,
    hint: certificate
      ? 'its certificate is not trusted; --insecure accepts any certificate of this registry'
      : 'check the name, the network and the proxy; images already here can be used with --pull never',
  });
}

function isCertificateErrno(errno: string): boolean {
  return /CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|HOSTNAME_MISMATCH/.test(errno);
}

export function protocolError(host: string, what: string, cause?: unknown): HrunError {
  return new HrunError('REGISTRY_PROTOCOL', `registry ${host} ${what}`, {
    ...(cause !== undefined && { cause }),
    hint: 'is this host really a registry, and the proxy on the way an honest one?',
  });
}

/** What a final answer that is no success means. `body` is the start of what came with it. */
export function statusError(
  host: string,
  subject: string,
  response: HttpResponse,
  body: Buffer | undefined,
): HrunError {
  const { status } = response;
  const said = sayingOf(body);
  if (status === 401 || status === 403) {
    return new HrunError('REGISTRY_DENIED', `registry ${host} denies access to ${subject}${said}`, {
      hint: `check the name, or log in: docker login ${host}`,
    });
  }
  if (status === 404) {
    return new HrunError('IMAGE_UNKNOWN', `registry ${host} has no ${subject}${said}`, {
      hint: 'check the spelling of name and tag',
    });
  }
  if (isBusy(status)) {
    return new HrunError('REGISTRY_UNREACHABLE', `registry ${host} answers ${status} for ${subject}${said}`, {
      hint: status === 429 ? 'too many requests: wait, or log in' : 'the registry is in trouble: try later',
    });
  }
  return protocolError(host, `answers ${status} for ${subject}${said}`);
}

export function denied(host: string, why: string): HrunError {
  return new HrunError('REGISTRY_DENIED', `registry ${host} ${why}`, {
    hint: `log in: docker login ${host}`,
  });
}

/** The registry's own words (distribution-spec, "Error Codes"), if it sent any. */
function sayingOf(body: Buffer | undefined): string {
  let json: unknown;
  try {
    json = JSON.parse(body?.toString('utf8') ?? '');
  } catch {
    return '';
  }
  const parsed = errorSchema.safeParse(json);
  const first = parsed.success ? parsed.data.errors[0] : undefined;
  const text = first?.message || first?.code;
  return text ? `: ${printable(text)}` : '';
}

/** Happy eyeballs reports one error per address inside another without a message. */
function flatten(error: unknown): readonly unknown[] {
  return error instanceof AggregateError ? error.errors : [error];
}
