import type { Duplex } from 'node:stream';
import { create, type DescMethod, fromBinary, toBinary } from '@bufbuild/protobuf';
import { type Metadata, Server, ServerCredentials, type ServiceDefinition } from '@grpc/grpc-js';
import { AgentService } from '../../src/agent/generated/hrun/agent/v1/agent_pb.ts';

// biome-ignore lint/suspicious/noExplicitAny: a handler takes whatever call its method has
type Handler = (call: any, answer: any) => void;

/** A gRPC server of the contract with the given handlers (names as in AgentService.method). */
export class FakeAgent implements Disposable {
  readonly #server = new Server();
  readonly #injector;

  constructor(handlers: Record<string, Handler>) {
    const definition: Record<string, object> = {};
    for (const [name, method] of Object.entries(AgentService.method)) definition[name] = definitionOf(method);
    this.#server.addService(definition as unknown as ServiceDefinition, handlers);
    this.#injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
  }

  /** Serves one connection. */
  serve(stream: Duplex): void {
    this.#injector.injectConnection(stream);
  }

  [Symbol.dispose](): void {
    this.#injector.destroy();
    this.#server.forceShutdown();
  }
}

/** What a handler answers to fail as the agent does. */
export function refusal(metadata: Metadata, code: number, details: string, reason?: string): object {
  if (reason !== undefined) metadata.set('hrun-reason', reason);
  return { code, details, metadata };
}

function definitionOf(method: DescMethod): object {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: method.methodKind === 'bidi_streaming' || method.methodKind === 'client_streaming',
    responseStream: method.methodKind === 'bidi_streaming' || method.methodKind === 'server_streaming',
    requestSerialize: (message: Record<string, unknown>) =>
      Buffer.from(toBinary(method.input, create(method.input, message))),
    requestDeserialize: (bytes: Buffer) => fromBinary(method.input, bytes),
    responseSerialize: (message: Record<string, unknown>) =>
      Buffer.from(toBinary(method.output, create(method.output, message))),
    responseDeserialize: (bytes: Buffer) => fromBinary(method.output, bytes),
  };
}
