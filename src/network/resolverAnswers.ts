import { type Answer, decode, encode, type Packet, RECURSION_AVAILABLE, RECURSION_DESIRED } from 'dns-packet';
import type { Endpoint } from './endpoint.ts';
import { contains, formatIp, ipFromBytes, parseIp, parsePrefix, readIp } from './ipAddress.ts';
import type { NetworkDefinition } from './networkDefinition.ts';

/** A container may be another one the next moment. */
const ttlSeconds = 10;
const NXDOMAIN = 3;
const REFUSED = 5;

export interface Question {
  /** Lower case, without the final dot. */
  readonly name: string;
  readonly type: string;
}

/** What becomes of a query: it is answered here, asked elsewhere, or is no query at all. */
export type Decision =
  | { readonly kind: 'answer'; readonly message: Buffer }
  | { readonly kind: 'forward'; readonly question: Question }
  | { readonly kind: 'drop' };

/**
 * Decides on the bytes of a query (RFC 1035) that came from a guest of a network.
 * @param asker undefined for an address that is no guest's
 */
export function decideQuery(
  bytes: Buffer,
  asker: Endpoint | undefined,
  endpoints: readonly Endpoint[],
  network: NetworkDefinition,
): Decision {
  const query = readQuery(bytes);
  if (query === undefined) return { kind: 'drop' };
  const { packet, question } = query;
  if (asker === undefined) return answer(packet, [], REFUSED);
  const own = answersOf(question, endpoints, network);
  if (own !== undefined) return answer(packet, own.answers, own.exists ? 0 : NXDOMAIN);
  if (network.internal || !mayAsk(asker, question.name)) return answer(packet, [], NXDOMAIN);
  return { kind: 'forward', question };
}

/** The answer to a query that nobody could be asked: RFC 1035, SERVFAIL. */
export function failedAnswer(bytes: Buffer): Buffer | undefined {
  const query = readQuery(bytes);
  const decision = query && answer(query.packet, [], 2);
  return decision?.kind === 'answer' ? decision.message : undefined;
}

/** Addresses in an answer, with how many seconds they hold; none in one that is damaged. */
export function addressesIn(bytes: Buffer): { readonly address: string; readonly ttlSeconds: number }[] {
  try {
    return (decode(bytes).answers ?? []).flatMap((record) => {
      if (record.type !== 'A' && record.type !== 'AAAA') return [];
      if (readIp(record.data) === undefined) return [];
      return [{ address: record.data, ttlSeconds: record.ttl ?? 0 }];
    });
  } catch {
    return [];
  }
}

/** Whether the endpoint's policy lets it know what this name means. */
function mayAsk({ egress }: Endpoint, name: string): boolean {
  return egress === undefined || isNamed(egress.allow, name);
}

/** Whether the answer to this name opens a way out. */
export function opensWay({ egress }: Endpoint, name: string): boolean {
  return egress !== undefined && isNamed(egress.allow, name);
}

function isNamed(allow: NonNullable<Endpoint['egress']>['allow'], name: string): boolean {
  return allow.some((allowance) => allowance.name?.toLowerCase() === name);
}

function readQuery(bytes: Buffer): { readonly packet: Packet; readonly question: Question } | undefined {
  try {
    const packet = decode(bytes);
    const [question, ...more] = packet.questions ?? [];
    if (packet.type !== 'query' || question === undefined || more.length > 0) return undefined;
    const name = question.name.replace(/\.$/, '').toLowerCase();
    return { packet, question: { name, type: question.type } };
  } catch {
    return undefined;
  }
}

function answer(packet: Packet, answers: Answer[], code: number): Decision {
  const message = encode({
    type: 'response',
    ...(packet.id !== undefined && { id: packet.id }),
    // the code is the low half of the flags
    flags: RECURSION_AVAILABLE | ((packet.flags ?? 0) & RECURSION_DESIRED) | code,
    questions: packet.questions ?? [],
    answers,
  });
  return { kind: 'answer', message };
}

/** Undefined for a name that is none of the network's. */
function answersOf(
  { name, type }: Question,
  endpoints: readonly Endpoint[],
  network: NetworkDefinition,
): { readonly exists: boolean; readonly answers: Answer[] } | undefined {
  const pointed = addressOfPointer(name);
  if (pointed !== undefined) return pointerAnswers(name, pointed, endpoints, network);
  const named = endpoints.filter(({ names }) => names.includes(name));
  if (named.length === 0) return undefined;
  const answers = named.flatMap(({ ipv4, ipv6 }): Answer[] => [
    ...(ipv4 !== undefined && ['A', 'ANY'].includes(type)
      ? [{ type: 'A' as const, name, ttl: ttlSeconds, data: ipv4 }]
      : []),
    ...(ipv6 !== undefined && ['AAAA', 'ANY'].includes(type)
      ? [{ type: 'AAAA' as const, name, ttl: ttlSeconds, data: ipv6 }]
      : []),
  ]);
  return { exists: true, answers };
}

function pointerAnswers(
  name: string,
  address: string,
  endpoints: readonly Endpoint[],
  { gateway4, gateway6 }: NetworkDefinition,
): { readonly exists: boolean; readonly answers: Answer[] } | undefined {
  const found = endpoints.find(({ ipv4, ipv6 }) => ipv4 === address || ipv6 === address);
  const [first] = found?.names ?? [];
  if (first !== undefined) {
    return { exists: true, answers: [{ type: 'PTR', name, ttl: ttlSeconds, data: first }] };
  }
  const ranges = [gateway4, ...(gateway6 === undefined ? [] : [gateway6])];
  const ours = ranges.some((text) =>
    contains(parsePrefix(text, 'the gateway'), parseIp(address, 'the address')),
  );
  return ours ? { exists: false, answers: [] } : undefined;
}

/** The address that a name below in-addr.arpa or ip6.arpa stands for. */
function addressOfPointer(name: string): string | undefined {
  const v4 = /^(\d{1,3}(?:\.\d{1,3}){3})\.in-addr\.arpa$/.exec(name)?.[1];
  if (v4 !== undefined) {
    const address = v4.split('.').toReversed().join('.');
    return readIp(address) === undefined ? undefined : address;
  }
  const v6 = /^((?:[0-9a-f]\.){32})ip6\.arpa$/.exec(name)?.[1];
  if (v6 === undefined) return undefined;
  const digits = v6.replaceAll('.', '').split('').toReversed().join('');
  const address = ipFromBytes(Buffer.from(digits, 'hex'));
  return address && formatIp(address);
}
