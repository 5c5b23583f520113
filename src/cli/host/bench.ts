import { Writable } from 'node:stream';
import { Option } from 'commander';
import { abortable } from '../../base/abort.ts';
import { HrunError } from '../../base/errors.ts';
import type { Launch } from '../../base/phases.ts';
import type { AttachIo, OutputChannel } from '../../runtime/attachIo.ts';
import type { Caller, Engine } from '../../runtime/engine.ts';
import type { CreateRequest } from '../../runtime/runRequest.ts';
import { openCaller } from '../caller.ts';
import type { Context } from '../deps.ts';
import { exitCodes } from '../exitCodes.ts';
import { integerOption } from '../flags.ts';
import { lineJson } from '../render/json.ts';
import { renderTable } from '../render/table.ts';
import type { Verb } from '../verb.ts';
import { addCreateFlags, type CreateFlags } from './createFlags.ts';
import { createRequest } from './createRequest.ts';

interface BenchFlags extends CreateFlags {
  readonly rounds: number;
  readonly format?: 'json';
}

type Kind = Exclude<Launch['kind'], 'joined'>;
type Measure = Kind | 'exec';
type Samples = Readonly<Record<Measure, number[]>>;

/** How a user's own launches fare on this host. `make bench` compares with raw QEMU and other runtimes. */
export const bench: Verb = {
  configure(command) {
    addCreateFlags(command);
    command.option('--rounds <number>', 'Launches of each kind', integerOption(1, 10_000), 10);
    command.addOption(new Option('--format <format>', 'How to print it').choices(['json']));
  },

  async run(command, context) {
    const flags = command.opts<BenchFlags>();
    const [image = 'busybox', ...args] = command.args;
    const words = args.length === 0 ? ['true'] : args;
    const request = { ...(await createRequest(flags, [image, ...words], context.session)), autoRemove: true };
    using asking = openCaller(context, { quiet: flags.quiet === true });
    // each launch begins when it is asked for, not with this command
    const caller: Caller = { ...asking, startedNs: undefined };
    const engine = await context.deps.engine();
    const samples = await measure(request, flags.rounds, engine, caller, context);
    if (flags.format === 'json') {
      await context.print(
        `${lineJson({ image, command: words, rounds: flags.rounds, samplesMs: samples })}\n`,
      );
    } else {
      await context.print(renderSamples(samples));
    }
    return exitCodes.ok;
  },
};

/** In turn, so that a busy host hurts all alike. The pool is as before afterwards. */
async function measure(
  request: CreateRequest,
  rounds: number,
  engine: Engine,
  caller: Caller,
  { signal }: Context,
): Promise<Samples> {
  const samples: Samples = { cold: [], cloned: [], pooled: [], exec: [] };
  const { ready } = engine.pool.status().policy;
  await using undo = new AsyncDisposableStack();
  undo.defer(async () => void (await engine.pool.setPolicy({ ready })));
  const launch = async (kind: Kind) => {
    await engine.pool.setPolicy({ ready: kind === 'pooled' ? Math.max(ready, 1) : 0 });
    if (kind === 'pooled') await engine.pool.filled(signal);
    const create = { ...request, cold: kind === 'cold' };
    const run = { create, detach: false, signalProxy: false, timing: true };
    const { timing } = await engine.containers.run(run, caller, silentIo(), signal);
    const phases = timing?.phases ?? [];
    const reached = timing?.launch?.kind;
    if (reached === undefined || reached === 'joined') {
      throw new HrunError('INTERNAL', 'a launch was not timed');
    }
    samples[reached].push(phases.reduce((sum, { durationMs }) => sum + durationMs, 0));
  };
  // the image's disk and the template are made once
  await launch('cloned');
  await launch('pooled');
  for (const measured of Object.values(samples)) measured.length = 0;
  const running = { ...request, entrypoint: [], command: ['sleep', '86400'] };
  const { containerId } = await engine.containers.run(
    { create: running, detach: true, signalProxy: false, timing: false },
    caller,
    silentIo(),
    signal,
  );
  undo.defer(() =>
    engine.containers.remove(containerId, { force: true, volumes: true }, AbortSignal.timeout(60_000)),
  );
  for (let round = 0; round < rounds; round += 1) {
    for (const kind of ['cold', 'cloned', 'pooled'] as const) await launch(kind);
    samples.exec.push(await timeExec(containerId, request, engine, signal));
  }
  return samples;
}

async function timeExec(
  container: string,
  { command }: CreateRequest,
  { containers }: Engine,
  signal: AbortSignal,
): Promise<number> {
  const startedMs = performance.now();
  const quiet = { openStdin: false, terminal: false, detach: false, environment: [], privileged: false };
  await containers.exec({ container, command, ...quiet }, silentIo(), signal);
  return performance.now() - startedMs;
}

function renderSamples(samples: Samples): string {
  const rows = (Object.entries(samples) as [Measure, number[]][])
    .filter(([, measured]) => measured.length > 0)
    .map(([name, measured]) => {
      const sorted = measured.toSorted((a, b) => a - b);
      const at = (share: number) => sorted[Math.ceil(share * sorted.length) - 1] ?? Number.NaN;
      const milliseconds = [sorted[0] ?? Number.NaN, at(0.5), at(0.9), at(1)];
      return [name, String(sorted.length), ...milliseconds.map((value) => `${value.toFixed(1)} ms`)];
    });
  return renderTable([['LAUNCH', 'ROUNDS', 'MIN', 'P50', 'P90', 'MAX'], ...rows]);
}

/** Of a workload that nobody watches. */
function silentIo(): AttachIo {
  const nothing = () => ({ [Symbol.dispose]() {} });
  return {
    stdin: undefined,
    stdout: droppedOutput(),
    stderr: droppedOutput(),
    terminalSize: undefined,
    onResize: nothing,
    onSignal: nothing,
    rawTerminal: nothing,
    detached: new AbortController().signal,
    async makeResumable() {},
    async settle() {},
  };
}

function droppedOutput(): OutputChannel {
  let offset = 0n;
  let more = Promise.withResolvers<void>();
  return {
    async write(bytes) {
      offset += BigInt(bytes.length);
      more.resolve();
      more = Promise.withResolvers();
    },
    get offset() {
      return offset;
    },
    get written() {
      return offset;
    },
    async writtenBeyond(from, signal) {
      while (offset <= from) await abortable(more.promise, signal);
      return offset;
    },
    closed: new AbortController().signal,
    writable: new Writable({ write: (_chunk, _encoding, done) => done() }),
  };
}
