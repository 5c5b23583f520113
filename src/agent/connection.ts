import { HrunError } from '../base/errors.ts';
import { printable } from '../base/text.ts';
import { type AgentClient, agentClient } from './client.ts';
import type { Dial } from './dial.ts';
import { openRelay } from './relay.ts';
import type { HelloResponse } from './types.ts';

const protocol = 1;
/** The contract's largest messages are lists of processes and injected files, each far below. */
const maxMessageBytes = 4 * 1024 * 1024;
/** grpc-js closes a channel that was idle for 30 minutes, which would look like the agent's end; this is its maximum. */
const neverIdleMs = 2 ** 31 - 1;

export interface AgentConnection extends AsyncDisposable {
  readonly client: AgentClient;
  readonly hello: HelloResponse;
  /** Settles when the connection was lost or disposed; never rejects. The agent goes on, and can be connected to again. */
  readonly closed: Promise<void>;
}

/**
 * Connects to an agent and greets it.
 * @param socketPath a unix socket of this connection alone: made, and removed on dispose
 * @throws HrunError AGENT_UNREACHABLE, or AGENT_PROTOCOL when it speaks another contract
 */
export async function connectAgent(
  dial: Dial,
  { socketPath }: { readonly socketPath: string },
  signal: AbortSignal,
): Promise<AgentConnection> {
  await using undo = new AsyncDisposableStack();
  // large, and needed only once a guest runs: it loads while the guest boots
  // The default: a bundler does not know the names that this CommonJS package exports.
  const [stream, { default: grpc }] = await Promise.all([dial(signal), import('@grpc/grpc-js')]);
  undo.defer(() => void stream.destroy());
  const relay = undo.use(await openRelay(stream, socketPath, signal));
  const channel = new grpc.Client(relay.target, grpc.credentials.createInsecure(), {
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': maxMessageBytes,
    'grpc.client_idle_timeout_ms': neverIdleMs,
    'grpc.enable_retries': 0,
    'grpc.service_config_disable_resolution': 1,
  });
  undo.defer(() => channel.close());
  const client = agentClient({ client: channel, emptyMetadata: () => new grpc.Metadata() });
  const hello = fitToShow(await client.hello({ protocol }, signal));
  if (hello.protocol !== protocol) {
    throw new HrunError('AGENT_PROTOCOL', `the agent speaks protocol ${hello.protocol}, not ${protocol}`);
  }
  const owned = undo.move();
  return { client, hello, closed: relay.closed, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function fitToShow(hello: HelloResponse): HelloResponse {
  const { agentVersion, kernelRelease, bootId } = hello;
  return {
    ...hello,
    agentVersion: printable(agentVersion),
    kernelRelease: printable(kernelRelease),
    bootId: printable(bootId),
  };
}
