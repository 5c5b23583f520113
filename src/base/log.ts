import { destination, type LevelWithSilent, pino } from 'pino';

export type LogLevel = LevelWithSilent;

/** What the daemon's rooms need of a logger; `fields` first, as pino has it. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  fatal(fields: object, message: string): void;
  child(fields: object): Log;
}

/** JSON lines on stderr, written at once: a daemon that dies leaves its last words. */
export function stderrLog(level: LogLevel): Log {
  return pino(
    { level, base: { pid: process.pid }, timestamp: () => `,"time":"${new Date().toISOString()}"` },
    destination({ fd: 2, sync: true }),
  );
}

/** Says nothing. */
export const silentLog: Log = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  fatal() {},
  child: () => silentLog,
};
