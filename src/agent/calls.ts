import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { BinaryReader } from '@bufbuild/protobuf/wire';
import type { CallOptions, Client, ClientDuplexStream, Metadata, StatusObject } from '@grpc/grpc-js';
import { abortable, withDeadline } from '../base/abort.ts';
import { HrunError } from '../base/errors.ts';
import { printable } from '../base/text.ts';
import { agentFailure } from './failure.ts';

/** Of one response, elements of lists counted each: the longest of the contract is one of 4096 processes. */
const maxFields = 5000;

/** What grpc-js needs of a call besides its method; loaded late, since grpc-js is large. */
export interface Caller {
  readonly client: Client;
  readonly emptyMetadata: () => Metadata;
}

const callOptions: CallOptions = {};

/** One request, one response. `limitMs` bounds calls that are quick whatever the container does. */
export function unaryCall<I extends DescMessage, O extends DescMessage>(
  { client, emptyMetadata }: Caller,
  method: DescMethodUnary<I, O>,
  limitMs: number | undefined,
): (request: MessageInitShape<I>, signal: AbortSignal) => Promise<MessageShape<O>> {
  const codec = codecOf(method);
  const call = (request: MessageInitShape<I>, signal: AbortSignal) => {
    signal.throwIfAborted();
    const answer = Promise.withResolvers<MessageShape<O>>();
    const running = client.makeUnaryRequest(
      codec.path,
      codec.serialize,
      codec.deserialize,
      create(method.input, request),
      emptyMetadata(),
      callOptions,
      (error, value) => {
        if (error !== null) answer.reject(signal.aborted ? signal.reason : agentFailure(method.name, error));
        else if (value === undefined) answer.reject(noAnswer(method));
        else answer.resolve(value);
      },
    );
    const cancel = () => running.cancel();
    signal.addEventListener('abort', cancel, { once: true });
    return answer.promise.finally(() => signal.removeEventListener('abort', cancel));
  };
  if (limitMs === undefined) return call;
  return (request, signal) =>
    withDeadline(`${method.name} of the agent`, limitMs, signal, (inner) => call(request, inner));
}

/** One request, a stream of responses; leaving the loop early cancels the call. */
export function serverStreamCall<I extends DescMessage, O extends DescMessage>(
  { client, emptyMetadata }: Caller,
  method: DescMethodServerStreaming<I, O>,
): (request: MessageInitShape<I>, signal: AbortSignal) => AsyncGenerator<MessageShape<O>, void> {
  const codec = codecOf(method);
  return async function* (request, signal) {
    signal.throwIfAborted();
    const stream = client.makeServerStreamRequest(
      codec.path,
      codec.serialize,
      codec.deserialize,
      create(method.input, request),
      emptyMetadata(),
      callOptions,
    );
    // a call that was left early still reports its end
    stream.on('error', () => {});
    yield* readMessages(stream, method, signal);
  };
}

/** A stream in each direction. */
export interface MessageStream<In, Out> extends Disposable {
  /** To be read once. It ends when the peer ends; leaving the loop early cancels the call. */
  readonly messages: AsyncIterable<Out>;
  /** Resolves once the peer takes more. @throws the failure of the call */
  send(message: In): Promise<void>;
  /** Nothing more will be sent. */
  end(): void;
}

export function bidiCall<I extends DescMessage, O extends DescMessage>(
  { client, emptyMetadata }: Caller,
  method: DescMethodBiDiStreaming<I, O>,
): (signal: AbortSignal) => MessageStream<MessageInitShape<I>, MessageShape<O>> {
  const codec = codecOf(method);
  return (signal) => {
    signal.throwIfAborted();
    const stream = client.makeBidiStreamRequest(
      codec.path,
      codec.serialize,
      codec.deserialize,
      emptyMetadata(),
      callOptions,
    );
    const cancel = () => stream.cancel();
    signal.addEventListener('abort', cancel, { once: true });
    stream.once('close', () => signal.removeEventListener('abort', cancel));
    const callEnd = new CallEnd(stream, method.name);
    // a failure is told by `messages` and `send`
    stream.on('error', () => {});
    return {
      messages: readMessages(stream, method, signal),
      send: (message) => {
        const sent = sendMessage(stream, create(method.input, message), method.name, signal);
        return abortable(callEnd.orEnd(sent), signal);
      },
      end: () => void stream.end(),
      [Symbol.dispose]: cancel,
    };
  };
}

/** How a call ended, once it has; grpc-js calls back no write that comes later. */
class CallEnd {
  #outcome: (() => Promise<void>) | undefined;
  #waiting = new Set<(outcome: () => Promise<void>) => void>();

  constructor(
    stream: { once(event: 'status', listener: (status: StatusObject) => void): unknown },
    call: string,
  ) {
    stream.once('status', ({ code, details }) => {
      const failure = new HrunError('AGENT_UNREACHABLE', `the agent ended ${call}: ${printable(details)}`);
      const outcome = () => (code === 0 ? Promise.resolve() : Promise.reject(failure));
      this.#outcome = outcome;
      for (const settle of this.#waiting) settle(outcome);
      this.#waiting.clear();
    });
  }

  /** Whichever comes first: `work`, or the end of the call. What is sent to an ended process is nobody's. */
  async orEnd(work: Promise<void>): Promise<void> {
    if (this.#outcome !== undefined) return this.#outcome();
    const ended = Promise.withResolvers<void>();
    const settle = (outcome: () => Promise<void>) => ended.resolve(outcome());
    this.#waiting.add(settle);
    try {
      await Promise.race([work, ended.promise]);
    } finally {
      this.#waiting.delete(settle);
    }
  }
}

async function sendMessage<In, Out>(
  stream: ClientDuplexStream<In, Out>,
  message: In,
  call: string,
  signal: AbortSignal,
): Promise<void> {
  const sent = Promise.withResolvers<void>();
  sent.promise.catch(() => {});
  // the callback comes when the transport took the message
  stream.write(message, (error: Error | null | undefined) => {
    if (error) sent.reject(signal.aborted ? signal.reason : agentFailure(call, error));
    else sent.resolve();
  });
  return sent.promise;
}

async function* readMessages<Out>(
  stream: AsyncIterable<Out> & { cancel(): void },
  method: DescMethod,
  signal: AbortSignal,
): AsyncGenerator<Out, void> {
  const cancel = () => stream.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  try {
    yield* stream;
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw agentFailure(method.name, error);
  } finally {
    signal.removeEventListener('abort', cancel);
    stream.cancel();
  }
}

interface Codec<In, Out> {
  readonly path: string;
  serialize(message: In): Buffer;
  deserialize(bytes: Buffer): Out;
}

function codecOf<I extends DescMessage, O extends DescMessage>(
  method: DescMethod & { readonly input: I; readonly output: O },
): Codec<MessageShape<I>, MessageShape<O>> {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    serialize: (message) => Buffer.from(toBinary(method.input, message)),
    deserialize: (bytes) => decodeAnswer(method, bytes),
  };
}

/** One response of the agent. @throws HrunError AGENT_PROTOCOL, or what the codec throws for bytes that are no message */
export function decodeAnswer<O extends DescMessage>(
  method: DescMethod & { readonly output: O },
  bytes: Uint8Array,
): MessageShape<O> {
  refuseCrowded(bytes, method);
  return fromBinary(method.output, bytes, { readUnknownFields: false });
}

/** Decoded, two bytes of a message can be an object of a hundred: what counts is how many, not how long. */
function refuseCrowded(bytes: Uint8Array, { name }: DescMethod): void {
  const reader = new BinaryReader(bytes);
  for (let fields = 0; reader.pos < reader.len; fields += 1) {
    if (fields === maxFields)
      throw new HrunError('AGENT_PROTOCOL', `the agent answered ${name} with more than ${maxFields} fields`);
    const [field, type] = reader.tag();
    reader.skip(type, field);
  }
}

function noAnswer(method: DescMethod): HrunError {
  return new HrunError('AGENT_PROTOCOL', `the agent ended ${method.name} without an answer`);
}
