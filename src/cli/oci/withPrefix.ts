import { HrunError } from '../../base/errors.ts';

/** What runc says before everything that keeps a verb from doing its work, as `exec failed: `. */
export function withPrefix(prefix: string, error: unknown): unknown {
  if (!(error instanceof HrunError) || error.message.startsWith(prefix)) return error;
  const { code, hint } = error;
  return new HrunError(code, `${prefix}${error.message}`, { cause: error, ...(hint && { hint }) });
}
