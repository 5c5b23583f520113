import { HrunError } from '../base/errors.ts';
import { bidiCall, type Caller, type MessageStream, serverStreamCall, unaryCall } from './calls.ts';
import { AgentService, type AttachResponse } from './generated/hrun/agent/v1/agent_pb.ts';
import type * as t from './types.ts';

/** Calls that never wait for a container: an agent that takes longer is not well. */
const quickLimitMs = 30_000;
/** Of one chunk of output, by the contract. */
const maxChunkBytes = 32 * 1024;

type Unary<Request, Response> = (request: Request, signal: AbortSignal) => Promise<Response>;

/** The contract's calls. They reject with an HrunError whose message may be shown as it is. */
export interface AgentClient {
  readonly hello: Unary<{ readonly protocol: number }, t.HelloResponse>;
  readonly personalize: Unary<t.PersonalizeInit, t.PersonalizeResponse>;
  configureNetwork(request: t.ConfigureNetworkInit, signal: AbortSignal): Promise<void>;
  /** Everything that a template should have behind it; the guest forgets who it was. */
  prepareTemplate(signal: AbortSignal): Promise<void>;
  /** What the next container with these disks finds mounted and read already. */
  prepareRoot(request: t.PrepareRootInit, signal: AbortSignal): Promise<void>;
  readonly createContainer: Unary<t.CreateContainerInit, t.CreateContainerResponse>;
  startContainer(containerId: string, signal: AbortSignal): Promise<void>;
  deleteContainer(containerId: string, signal: AbortSignal): Promise<void>;
  updateContainer(request: t.UpdateContainerInit, signal: AbortSignal): Promise<void>;
  /** Resolves when every process of the container stands still. */
  pauseContainer(containerId: string, signal: AbortSignal): Promise<void>;
  resumeContainer(containerId: string, signal: AbortSignal): Promise<void>;
  /** Files of the container's cgroup by name; the guest says what is in them. */
  containerStats(containerId: string, signal: AbortSignal): Promise<Readonly<Record<string, string>>>;
  readonly exec: Unary<t.ExecInit, t.ExecResponse>;
  /** Joins one process: its output from the given offsets on, and its input. Ends when `signal` fires. */
  attach(open: t.AttachOpenInit, signal: AbortSignal): Promise<Attachment>;
  /** Has the agent listen at an address of the guest's loopback network, port 53. Ends when `signal` fires. */
  relayNames(address: string, signal: AbortSignal): Promise<NameRelay>;
  signal(request: t.SignalInit, signal: AbortSignal): Promise<void>;
  releaseProcess(request: t.ReleaseProcessInit, signal: AbortSignal): Promise<void>;
  listProcesses(containerId: string, signal: AbortSignal): Promise<t.ProcessInfo[]>;
  listContainers(signal: AbortSignal): Promise<t.ContainerInfo[]>;
  unpackLayers(request: t.UnpackLayersInit, signal: AbortSignal): AsyncIterable<t.UnpackLayersResponse>;
  readonly packPath: Unary<t.PackPathInit, t.PackPathResponse>;
  extractArchive(request: t.ExtractArchiveInit, signal: AbortSignal): Promise<void>;
  readonly statPath: Unary<t.StatPathInit, t.StatPathResponse>;
  shutdown(signal: AbortSignal): Promise<void>;
}

/** Queries of guests to a name server of the host, and its answers. Disposing ends the call. */
export interface NameRelay extends Disposable {
  readonly queries: AsyncIterable<t.NameQuery>;
  answer(answer: t.NameAnswerInit): Promise<void>;
}

/** Disposing ends the call, not the process. */
export interface Attachment extends Disposable {
  /** To be read once, and steadily: what is not read stops the process. */
  readonly outputs: AsyncIterable<t.AttachOutput>;
  /** Resolves once the agent takes more. */
  send(input: t.AttachInput): Promise<void>;
}

export function agentClient(caller: Caller): AgentClient {
  const { method } = AgentService;
  const configureNetwork = unaryCall(caller, method.configureNetwork, quickLimitMs);
  // its hooks may take as long as they want
  const startContainer = unaryCall(caller, method.startContainer, undefined);
  const prepareTemplate = unaryCall(caller, method.prepareTemplate, quickLimitMs);
  const prepareRoot = unaryCall(caller, method.prepareRoot, quickLimitMs);
  const deleteContainer = unaryCall(caller, method.deleteContainer, undefined);
  const updateContainer = unaryCall(caller, method.updateContainer, quickLimitMs);
  const pauseContainer = unaryCall(caller, method.pauseContainer, quickLimitMs);
  const resumeContainer = unaryCall(caller, method.resumeContainer, quickLimitMs);
  const containerStats = unaryCall(caller, method.containerStats, quickLimitMs);
  const signalProcess = unaryCall(caller, method.signal, quickLimitMs);
  const releaseProcess = unaryCall(caller, method.releaseProcess, quickLimitMs);
  const listProcesses = unaryCall(caller, method.listProcesses, quickLimitMs);
  const listContainers = unaryCall(caller, method.listContainers, quickLimitMs);
  const extractArchive = unaryCall(caller, method.extractArchive, undefined);
  const shutdown = unaryCall(caller, method.shutdown, undefined);
  const attach = bidiCall(caller, method.attach);
  const relayNames = bidiCall(caller, method.relayNames);
  return {
    hello: unaryCall(caller, method.hello, quickLimitMs),
    personalize: unaryCall(caller, method.personalize, quickLimitMs),
    configureNetwork: async (request, signal) => void (await configureNetwork(request, signal)),
    prepareTemplate: async (signal) => void (await prepareTemplate({}, signal)),
    prepareRoot: async (request, signal) => void (await prepareRoot(request, signal)),
    createContainer: unaryCall(caller, method.createContainer, undefined),
    startContainer: async (containerId, signal) => void (await startContainer({ containerId }, signal)),
    deleteContainer: async (containerId, signal) => void (await deleteContainer({ containerId }, signal)),
    updateContainer: async (request, signal) => void (await updateContainer(request, signal)),
    pauseContainer: async (containerId, signal) => void (await pauseContainer({ containerId }, signal)),
    resumeContainer: async (containerId, signal) => void (await resumeContainer({ containerId }, signal)),
    containerStats: async (containerId, signal) => (await containerStats({ containerId }, signal)).files,
    exec: unaryCall(caller, method.exec, undefined),
    attach: async (open, signal) => {
      const stream = attach(signal);
      await stream.send({ message: { case: 'open', value: open } });
      return attachment(stream);
    },
    relayNames: async (address, signal) => {
      const stream = relayNames(signal);
      await stream.send({ message: { case: 'open', value: { address } } });
      return {
        queries: stream.messages,
        answer: (answer) => stream.send({ message: { case: 'answer', value: answer } }),
        [Symbol.dispose]: () => stream[Symbol.dispose](),
      };
    },
    signal: async (request, signal) => void (await signalProcess(request, signal)),
    releaseProcess: async (request, signal) => void (await releaseProcess(request, signal)),
    listProcesses: async (containerId, signal) => (await listProcesses({ containerId }, signal)).processes,
    listContainers: async (signal) => (await listContainers({}, signal)).containers,
    unpackLayers: serverStreamCall(caller, method.unpackLayers),
    packPath: unaryCall(caller, method.packPath, undefined),
    extractArchive: async (request, signal) => void (await extractArchive(request, signal)),
    statPath: unaryCall(caller, method.statPath, undefined),
    shutdown: async (signal) => void (await shutdown({}, signal)),
  };
}

type AttachStream = MessageStream<
  { message: t.AttachInput | { case: 'open'; value: t.AttachOpenInit } },
  AttachResponse
>;

function attachment(stream: AttachStream): Attachment {
  return {
    outputs: checkedOutputs(stream.messages),
    send: (message) => stream.send({ message }),
    [Symbol.dispose]: () => stream[Symbol.dispose](),
  };
}

async function* checkedOutputs(
  messages: AsyncIterable<AttachResponse>,
): AsyncGenerator<t.AttachOutput, void> {
  for await (const { message } of messages) {
    if (message.case === undefined)
      throw new HrunError('AGENT_PROTOCOL', 'the agent sent an empty output message');
    const isChunk = message.case === 'stdout' || message.case === 'stderr';
    if (isChunk && message.value.data.length > maxChunkBytes) {
      throw new HrunError('AGENT_PROTOCOL', `the agent sent ${message.value.data.length} bytes in one chunk`);
    }
    yield message;
  }
}
