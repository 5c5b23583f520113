import { formatIp, type IpPrefix, networkOf } from './ipAddress.ts';

/** Expressions and statements of libnftables-json(5), as far as they are used here. */
export type NftStatement = Readonly<Record<string, unknown>>;
type Operator = '==' | '!=' | 'in';

export const meta = (key: string) => ({ meta: { key } });
export const payload = (protocol: string, field: string) => ({ payload: { protocol, field } });
export const concat = (...parts: readonly object[]) => ({ concat: parts });
export const addressType = { fib: { result: 'type', flags: ['daddr'] } };
export const connection = (key: string) => ({ ct: { key } });

export function match(left: object, right: unknown, op: Operator = '=='): NftStatement {
  return { match: { op, left, right } };
}

/** A range as the right side of a match. */
export function range(prefix: IpPrefix): string | object {
  const { base, length } = networkOf(prefix);
  const addr = formatIp(base);
  return length === (base.family === 4 ? 32 : 128) ? addr : { prefix: { addr, len: length } };
}

/** The payload protocol of a family. */
export function ipProtocol({ base }: IpPrefix): 'ip' | 'ip6' {
  return base.family === 4 ? 'ip' : 'ip6';
}

export const accept: NftStatement = { accept: null };
export const drop: NftStatement = { drop: null };
/** Goes on behind the jump that led here. */
export const leave: NftStatement = { return: null };
export const masquerade: NftStatement = { masquerade: null };
export const jump = (target: string): NftStatement => ({ jump: { target } });
export const reject: NftStatement = { reject: { type: 'icmpx', expr: 'admin-prohibited' } };
