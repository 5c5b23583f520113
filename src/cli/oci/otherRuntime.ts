import { posix } from 'node:path';
import { z } from 'zod';
import { HrunError, isHrunError } from '../../base/errors.ts';
import { printable } from '../../base/text.ts';
import type { OciName } from '../../runtime/oci/ociEngine.ts';
import { globalFlags } from './globalFlags.ts';
import { findFlag } from './goFlags.ts';
import type { GivenCommand, OciCall, OciVerb } from './ociVerb.ts';

/** What only hrun has: the runtime for containers that want the host's network (docs/oci.md). */
const ownFlag = 'host-network-runtime';
const nothing = Buffer.alloc(0);

const Listed = z.array(
  z.looseObject({
    id: z.string(),
    pid: z.int(),
    status: z.string(),
    bundle: z.string(),
    created: z.string(),
    owner: z.string(),
  }),
);

/** A line of `list` that another runtime said. */
export type ListedElsewhere = z.infer<typeof Listed>[number];

/**
 * The runtime that is to carry this command out: the one that was given the container, or, for a new one that wants the
 * host's network, the one that is configured for that.
 * @throws HrunError ALREADY_EXISTS with runc's text
 */
export async function otherRuntimeFor(verb: OciVerb, call: OciCall): Promise<string | undefined> {
  const { oci, caller, flags, args, command, context, signal } = call;
  if (args[0] === undefined || args[0] === '') return undefined;
  const name = call.name();
  const known = oci.handedOver.runtimeOf(name);
  if (!makes(verb)) return known;
  if (known !== undefined) {
    // It says itself that there is one of this name already, or soon.
    const underWay = (await oci.handedOver.inScope(name.scope)).some(
      (one) => one.id === name.id && one.underWay,
    );
    if (underWay || (await isThere(known, name, call))) return known;
    await oci.handedOver.forget(name);
  }
  const { hostNetworkRuntime } = await context.deps.config();
  const configured = command.globals.text(ownFlag) ?? hostNetworkRuntime;
  if (configured === undefined || oci.has(name)) return undefined;
  if (posix.basename(configured) === 'hrun') {
    throw new HrunError('INVALID_ARGUMENT', `--${ownFlag}: hrun cannot hand containers to itself`);
  }
  const bundle = flags.text('bundle') ?? context.session.cwd;
  if (!(await oci.wantsHostNetwork(bundle, caller, signal))) return undefined;
  await oci.handedOver.add(name, configured, context.session.pid);
  return configured;
}

/** Has another runtime carry a command out in the place of this one: its process becomes the caller's. */
export async function handOver(runtime: string, verb: OciVerb, call: OciCall): Promise<number> {
  const { caller, command, context, signal } = call;
  const args = [runtime, ...wordsForOther(command.argv)];
  // Of an end hrun wants to know how it ended.
  if (verb.name !== 'delete') {
    try {
      return await caller.files.become({ path: runtime, args }, signal);
    } catch (error) {
      // Any other end of the connection is that it has become the runtime.
      if (isHrunError(error, 'HAND_FAILED') && makes(verb)) await call.oci.handedOver.forget(call.name());
      throw error;
    }
  }
  const end = await caller.files.runProgram({ path: runtime, args, stdin: nothing, timeoutMs: 0 }, signal);
  await context.print(end.stdout.toString('utf8'));
  await context.complain(end.stderr);
  if (end.code === 0) await call.oci.handedOver.forget(call.name());
  return end.code ?? 1;
}

/** The containers of a scope that other runtimes have; those that they know nothing of are forgotten. */
export async function listElsewhere(call: OciCall): Promise<ListedElsewhere[]> {
  const { oci, scope, caller, command, signal } = call;
  const known = await oci.handedOver.inScope(scope);
  const found: ListedElsewhere[] = [];
  for (const [runtime, entries] of Map.groupBy(known, (entry) => entry.runtime)) {
    const args = [runtime, ...rootOf(command), 'list', '--format', 'json'];
    const end = await caller.files.runProgram({ path: runtime, args, stdin: nothing, timeoutMs: 0 }, signal);
    const listed = end.code === 0 ? parseList(end.stdout.toString('utf8')) : undefined;
    if (listed === undefined) {
      const said = printable(end.stderr.trim(), 1000);
      throw new HrunError('HAND_FAILED', `${printable(runtime)} does not list its containers: ${said}`);
    }
    for (const { id, underWay } of entries) {
      const there = listed.find((one) => one.id === id);
      if (there !== undefined) found.push(there);
      else if (!underWay) await oci.handedOver.forget({ scope, id });
    }
  }
  return found;
}

function makes({ name }: OciVerb): boolean {
  return name === 'create' || name === 'run';
}

/** A command line without the options that another runtime does not have. Pure. */
export function wordsForOther(argv: readonly string[]): string[] {
  const words: string[] = [];
  for (let at = 0; at < argv.length; at += 1) {
    const match = /^--?([^-=][^=]*)(=.*)?$/s.exec(argv[at] ?? '');
    const spec = match === null ? undefined : findFlag(globalFlags, match[1] ?? '');
    if (spec === undefined) return [...words, ...argv.slice(at)];
    const end = spec.kind === 'bool' || match?.[2] !== undefined ? at + 1 : at + 2;
    if (spec.name !== ownFlag) words.push(...argv.slice(at, end));
    at = end - 1;
  }
  return words;
}

async function isThere(
  runtime: string,
  { id }: OciName,
  { caller, command, signal }: OciCall,
): Promise<boolean> {
  const args = [runtime, ...rootOf(command), 'state', id];
  const end = await caller.files.runProgram({ path: runtime, args, stdin: nothing, timeoutMs: 0 }, signal);
  return end.code === 0;
}

function rootOf({ globals }: GivenCommand): string[] {
  const root = globals.text('root');
  return root === undefined ? [] : ['--root', root];
}

/** What `list --format json` says; `null` is an empty list. */
function parseList(text: string): ListedElsewhere[] | undefined {
  try {
    return Listed.parse(JSON.parse(text) ?? []);
  } catch {
    return undefined;
  }
}
