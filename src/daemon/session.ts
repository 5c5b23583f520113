import { randomBytes } from 'node:crypto';
import { HrunError } from '../base/errors.ts';
import type { Session } from '../cli/session.ts';
import type { AttachRecord } from '../runtime/attachRecord.ts';
import { tokenFrame } from '../runtime/wire/frames.ts';
import { takeDescriptor } from '../sys/foreignDescriptor.ts';
import { type NetNamespace, openNetNamespace } from '../sys/netNamespace.ts';
import type { FrontDoor } from './frontDoor.ts';
import { callerFiles } from './hands.ts';
import {
  removeSessionRecord,
  type SessionRecord,
  sweepSessionRecords,
  writeSessionRecord,
} from './sessionRecords.ts';
import type { Hello } from './wire.ts';

/** Where a command's record is kept while its front door may come back. */
export interface Resumption {
  makeResumable(record: AttachRecord): Promise<void>;
  settle(exitCode: number): Promise<void>;
  /** The front door has the exit code: nothing is left to come back to. */
  forget(): Promise<void>;
  /** The front door was lost: what nobody will ever ask for goes. */
  lost(): Promise<void>;
}

/** `known`: the token and record that the front door came back with. */
export function resumption(
  directory: string,
  frontDoor: FrontDoor,
  identity: SessionRecord['frontDoor'],
  known?: { readonly token: string; readonly record: SessionRecord },
): Resumption {
  let current = known;
  return {
    async makeResumable(attach) {
      if (current !== undefined) throw new HrunError('INTERNAL', 'a command can be made resumable only once');
      const token = randomBytes(32);
      current = { token: token.toString('hex'), record: { frontDoor: identity, attach } };
      await writeSessionRecord(directory, current.token, current.record);
      frontDoor.send(tokenFrame(token));
    },
    async settle(exitCode) {
      if (current === undefined || current.record.exitCode !== undefined) return;
      current = { token: current.token, record: { ...current.record, exitCode } };
      await writeSessionRecord(directory, current.token, current.record);
    },
    async forget() {
      if (current !== undefined) await removeSessionRecord(directory, current.token);
    },
    async lost() {
      if (current !== undefined) await sweepSessionRecords(directory);
    },
  };
}

/** What a command sees of its front door. `hello` is undefined for one that came back. */
export function openSession(
  frontDoor: FrontDoor,
  hello: Hello | undefined,
  peerPid: number,
  { makeResumable, settle }: Resumption,
): Session {
  const [stdin, stdout, stderr] = hello?.header.tty ?? [false, false, false];
  const cwd = hello?.header.cwd ?? '/';
  return {
    argv: hello?.argv ?? [],
    environment: hello?.environment ?? new Map(),
    cwd,
    pid: peerPid,
    startedNs: hello && BigInt(Math.round(hello.header.startedMonotonicNs)),
    isTerminal: { stdin, stdout, stderr },
    get terminalSize() {
      return frontDoor.terminalSize;
    },
    stdin: frontDoor.stdin,
    stdout: frontDoor.stdout,
    stderr: frontDoor.stderr,
    files: callerFiles(frontDoor.hands, frontDoor.stdin, cwd, (number) => takeDescriptor(peerPid, number)),
    openNetns: () => openNetnsOf(peerPid),
    signal: frontDoor.gone,
    onResize: (listener) => frontDoor.onResize(listener),
    onSignal: (listener) => frontDoor.onSignal(listener),
    rawTerminal: () => frontDoor.rawTerminal(),
    makeResumable,
    settle,
  };
}

/** The front door is connected, so its pid is still its own. */
function openNetnsOf(pid: number): NetNamespace {
  try {
    return openNetNamespace(`/proc/${pid}/ns/net`);
  } catch (cause) {
    throw new HrunError('NETWORK_FAILED', 'the network namespace of the caller cannot be entered', {
      cause,
      hint: 'networks need root; without it use --network none',
    });
  }
}
