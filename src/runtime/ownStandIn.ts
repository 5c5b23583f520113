import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { z } from 'zod';
import { HrunError, messageOf } from '../base/errors.ts';
import { printable } from '../base/text.ts';
import type { StandInRequest } from './callerFiles.ts';

/** The native binary of hrun, which is a stand-in when it is called by that name; undefined where it was not found. */
export type StandInLauncher = string | undefined;

/** The number that the launcher is told, of the socket it is asked over. */
const requestFd = 3;
const mostAnswerBytes = 64 * 1024;
const AnswerSchema = z.union([z.object({ pid: z.int() }), z.object({ message: z.string() })]);

/**
 * Starts a stand-in in this daemon's own namespaces, where those of containers are started by their callers.
 * @throws HrunError HAND_FAILED with the stand-in's words, INTERNAL without the native binary
 */
export async function startStandIn(
  request: StandInRequest,
  launcher: StandInLauncher,
  signal: AbortSignal,
): Promise<void> {
  if (launcher === undefined) {
    throw new HrunError('INTERNAL', 'the native binary of hrun, which stand-ins are, was not found', {
      hint: 'run "make build"',
    });
  }
  const child = spawn(launcher, [String(requestFd)], {
    argv0: 'hrun-stand-in',
    cwd: '/',
    detached: true,
    env: {},
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    signal,
  });
  const ended = once(child, 'close');
  ended.catch(() => {});
  const socket = child.stdio[requestFd] as Socket;
  const answer: Buffer[] = [];
  let bytes = 0;
  try {
    socket.end(JSON.stringify(request));
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes <= mostAnswerBytes) answer.push(chunk);
    }
    await ended;
    const said = AnswerSchema.parse(JSON.parse(Buffer.concat(answer).toString('utf8')));
    if ('message' in said) throw new HrunError('HAND_FAILED', printable(said.message, 2000));
  } catch (cause) {
    signal.throwIfAborted();
    if (cause instanceof HrunError) throw cause;
    throw new HrunError('HAND_FAILED', `a stand-in could not be started: ${messageOf(cause)}`, { cause });
  }
}
