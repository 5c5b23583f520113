import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { parseStateText, writeStateFile } from '../base/stateFile.ts';
import { type AttachRecord, AttachRecordSchema } from '../runtime/attachRecord.ts';
import { identifyProcess, isAlive } from '../sys/processes.ts';

/** What is on disk of a command whose front door may come back: `$HRUN_RUN/sessions/<token>.json`. */
const SessionRecordSchema = z.object({
  version: z.literal(1),
  /** Undefined when the front door is in a pid namespace that this daemon does not see. */
  frontDoor: z.object({ pid: z.int().positive(), startTicks: z.string() }).optional(),
  attach: AttachRecordSchema,
  /** Set once the workload has ended and all its output is written. */
  exitCode: z.int().min(0).max(255).optional(),
});

export interface SessionRecord {
  readonly frontDoor: { readonly pid: number; readonly startTicks: string } | undefined;
  readonly attach: AttachRecord;
  readonly exitCode?: number;
}

export async function writeSessionRecord(
  directory: string,
  token: string,
  record: SessionRecord,
): Promise<void> {
  const replacer = (_key: string, value: unknown) => (typeof value === 'bigint' ? String(value) : value);
  await writeStateFile(recordPath(directory, token), { version: 1, ...record }, { durable: false, replacer });
}

/** The record behind a token; undefined for one that was never given, or is not readable any more. */
export async function readSessionRecord(
  directory: string,
  token: string,
): Promise<SessionRecord | undefined> {
  const parsed = SessionRecordSchema.safeParse(await readJson(recordPath(directory, token)));
  if (!parsed.success) return undefined;
  const { frontDoor, attach, exitCode } = parsed.data;
  return { frontDoor, attach, ...(exitCode === undefined ? {} : { exitCode }) };
}

export async function removeSessionRecord(directory: string, token: string): Promise<void> {
  await rm(recordPath(directory, token), { recursive: true, force: true });
}

/** Containers that a command which may come back was attached to. */
export async function awaitedContainers(directory: string): Promise<ReadonlySet<string>> {
  const awaited = new Set<string>();
  for (const token of await tokensIn(directory)) {
    const record = await readSessionRecord(directory, token);
    if (record !== undefined) awaited.add(record.attach.containerId);
  }
  return awaited;
}

/** Forgets the commands whose front door has died: nobody will ever ask for them. */
export async function sweepSessionRecords(directory: string): Promise<void> {
  for (const token of await tokensIn(directory)) {
    const record = await readSessionRecord(directory, token);
    const dead = record?.frontDoor !== undefined && !(await isAlive(record.frontDoor));
    if (record === undefined || dead) await removeSessionRecord(directory, token);
  }
}

async function tokensIn(directory: string): Promise<string[]> {
  return (await readdir(directory)).flatMap((file) => /^([0-9a-f]{64})\.json$/.exec(file)?.[1] ?? []);
}

/** Who the front door is, so that a pid used again is not taken for it. */
export async function identifyFrontDoor(pid: number): Promise<SessionRecord['frontDoor']> {
  return pid > 0 ? identifyProcess(pid) : undefined;
}

function recordPath(directory: string, token: string): string {
  return join(directory, `${token}.json`);
}

async function readJson(path: string): Promise<unknown> {
  try {
    return parseStateText(await readFile(path, 'utf8'));
  } catch {
    return undefined;
  }
}
