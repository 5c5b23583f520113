import { checked, libc, systemError } from './libc.ts';

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;
const SOL_NETLINK = 270;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLM_F_ACK_TLVS = 0x200;
const NLM_F_CAPPED = 0x100;
const NLMSGERR_ATTR_MSG = 1;

const headerBytes = 16;
/** More than the kernel ever puts into one datagram of a dump. */
const receiveBytes = 256 * 1024;

export const netlinkFlags = { replace: 0x100, exclusive: 0x200, create: 0x400, append: 0x800, dump: 0x300 };

export interface NetlinkMessage {
  readonly type: number;
  /** Behind the nlmsghdr. */
  readonly payload: Buffer;
}

/**
 * A netlink(7) socket in the network namespace that this thread was in when it was opened; it stays there. Requests
 * are answered by the kernel before they return, so all of it is synchronous.
 */
export class NetlinkSocket implements Disposable {
  readonly #fd: number;
  #sequence = 0;

  /** @param family NETLINK_ROUTE is 0 */
  constructor(family: number) {
    const { socket, setsockopt } = libc();
    this.#fd = checked(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family), 'socket', 'netlink');
    const on = Buffer.from([1, 0, 0, 0]);
    // refused by kernels that do not know them, which only lessens what errors say
    setsockopt(this.#fd, SOL_NETLINK, NETLINK_EXT_ACK, on, on.length);
    setsockopt(this.#fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, on, on.length);
  }

  /**
   * Sends one request and gives back what the kernel answers: nothing but its consent, one object, or a dump.
   * @param subject names the object in errors
   * @throws the system error with the kernel's own words, if it has any
   */
  request(type: number, flags: number, payload: Uint8Array, subject: string): NetlinkMessage[] {
    this.#sequence += 1;
    const message = Buffer.alloc(headerBytes + payload.length);
    message.writeUInt32LE(message.length, 0);
    message.writeUInt16LE(type, 4);
    message.writeUInt16LE(NLM_F_REQUEST | NLM_F_ACK | flags, 6);
    message.writeUInt32LE(this.#sequence, 8);
    message.set(payload, headerBytes);
    checked(Number(libc().send(this.#fd, message, message.length, 0)), 'send', subject);
    return this.#answers(subject);
  }

  #answers(subject: string): NetlinkMessage[] {
    const answers: NetlinkMessage[] = [];
    for (;;) {
      for (const { type, flags, sequence, payload } of this.#receive(subject)) {
        if (sequence !== this.#sequence) continue;
        if (type === NLMSG_DONE) return answers;
        if (type === NLMSG_ERROR) {
          const errno = -payload.readInt32LE(0);
          if (errno === 0) return answers;
          throw refused(errno, flags, payload, subject);
        }
        answers.push({ type, payload });
      }
    }
  }

  #receive(subject: string): (NetlinkMessage & { readonly flags: number; readonly sequence: number })[] {
    const buffer = Buffer.allocUnsafe(receiveBytes);
    const received = Number(libc().recv(this.#fd, buffer, buffer.length, MSG_DONTWAIT | MSG_TRUNC));
    checked(received, 'recv', subject);
    const messages = [];
    const bytes = buffer.subarray(0, Math.min(received, buffer.length));
    for (let at = 0; at + headerBytes <= bytes.length; ) {
      const length = bytes.readUInt32LE(at);
      if (length < headerBytes || at + length > bytes.length) break;
      messages.push({
        type: bytes.readUInt16LE(at + 4),
        flags: bytes.readUInt16LE(at + 6),
        sequence: bytes.readUInt32LE(at + 8),
        payload: bytes.subarray(at + headerBytes, at + length),
      });
      at += align(length);
    }
    return messages;
  }

  [Symbol.dispose](): void {
    libc().close(this.#fd);
  }
}

function refused(errno: number, flags: number, payload: Buffer, subject: string): Error {
  const error = systemError('netlink', subject, errno);
  if ((flags & NLM_F_ACK_TLVS) === 0) return error;
  // behind the errno the request's header, and unless capped the request itself
  const request = payload.length >= 8 ? payload.readUInt32LE(4) : 0;
  const skipped = 4 + ((flags & NLM_F_CAPPED) === 0 ? align(request) : headerBytes);
  const words = readAttributes(payload.subarray(Math.min(skipped, payload.length))).get(NLMSGERR_ATTR_MSG);
  if (words !== undefined) error.message += `: ${cString(words)}`;
  return error;
}

/** An attribute whose content is made of attributes. */
export interface NestedAttributes {
  readonly nested: readonly Attribute[];
}
/** Type and content: bytes as they are, a string with its final NUL, a number as u32, or attributes. */
export type Attribute = readonly [type: number, content: Uint8Array | string | number | NestedAttributes];

const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;

/** The attributes (struct nlattr) one after the other, aligned. */
export function attributeBytes(attributes: readonly Attribute[]): Buffer {
  return Buffer.concat(attributes.map(oneAttribute));
}

function oneAttribute([type, content]: Attribute): Buffer {
  const nested = typeof content === 'object' && 'nested' in content;
  const bytes = contentBytes(content);
  const attribute = Buffer.alloc(align(4 + bytes.length));
  attribute.writeUInt16LE(4 + bytes.length, 0);
  attribute.writeUInt16LE(nested ? type | NLA_F_NESTED : type, 2);
  attribute.set(bytes, 4);
  return attribute;
}

function contentBytes(content: Attribute[1]): Uint8Array {
  if (typeof content === 'string') return Buffer.from(`${content}\0`);
  if (typeof content === 'number') {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(content >>> 0);
    return bytes;
  }
  return 'nested' in content ? attributeBytes(content.nested) : content;
}

/** What a message or a nested attribute holds, by type; of a type that comes twice the last. */
export function readAttributes(bytes: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = bytes.readUInt16LE(at);
    if (length < 4 || at + length > bytes.length) break;
    found.set(bytes.readUInt16LE(at + 2) & NLA_TYPE_MASK, bytes.subarray(at + 4, at + length));
    at += align(length);
  }
  return found;
}

/** A NUL-terminated string in an attribute. */
export function cString(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end < 0 ? bytes.length : end);
}

function align(length: number): number {
  return (length + 3) & ~3;
}
