import { HrunError } from '../../base/errors.ts';
import { printable } from '../../base/text.ts';
import type { HookSpec } from '../../oci/runtimeSpec.ts';
import type { CallerFiles, ProgramEnd } from '../callerFiles.ts';
import type { SpecState } from './runcState.ts';

export interface HookRun {
  /** As in config.json: `createRuntime`. */
  readonly name: string;
  readonly hooks: readonly HookSpec[];
  readonly state: SpecState;
  readonly bundle: string;
  /** Run in this process's network, IPC and UTS namespaces. */
  readonly namespacesOf?: number;
}

/**
 * Runs hooks in the caller's namespaces, one after the other, the state on their stdin.
 * @throws HrunError HAND_FAILED with runc's text for the first that fails
 */
export async function runHooks(run: HookRun, files: CallerFiles, signal: AbortSignal): Promise<void> {
  for (const [index, hook] of run.hooks.entries()) {
    const fail = (why: string) => {
      const message = `error running ${run.name} hook #${index}: ${why}`;
      return new HrunError('HAND_FAILED', message, { hint: `the hook is ${printable(hook.path)}` });
    };
    let end: ProgramEnd;
    try {
      end = await files.runProgram(
        {
          path: hook.path,
          args: hook.args.length === 0 ? [hook.path] : hook.args,
          ...(hook.env.length > 0 && { env: hook.env }),
          cwd: run.bundle,
          stdin: Buffer.from(JSON.stringify(run.state)),
          timeoutMs: (hook.timeout ?? 0) * 1000,
          ...(run.namespacesOf !== undefined && { namespacesOf: run.namespacesOf }),
        },
        signal,
      );
    } catch (error) {
      signal.throwIfAborted();
      throw fail(error instanceof Error ? error.message : String(error));
    }
    if (end.timedOut) throw fail(`hook ran past specified timeout of ${(hook.timeout ?? 0).toFixed(1)}s`);
    if (end.code === 0) continue;
    const how = end.signal === undefined ? `exit status ${end.code}` : `signal: ${end.signal}`;
    const said = (text: string) => printable(text.slice(-1000), 1000);
    throw fail(`${how}, stdout: ${said(end.stdout.toString('utf8'))}, stderr: ${said(end.stderr)}`);
  }
}
