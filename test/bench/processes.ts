import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/** Runs a command that must succeed. */
export async function mustRun(argv: readonly string[], env?: NodeJS.ProcessEnv): Promise<string> {
  const [file = '', ...args] = argv;
  const { stdout } = await execute(file, args, { maxBuffer: 2 ** 26, ...(env && { env }) });
  return stdout.trimEnd();
}

/**
 * The median of ten runs in a row, milliseconds: hyperfine subtracts what starting a process from here costs.
 * @param directory for its output
 */
export async function wallMs(
  argv: readonly string[],
  directory: string,
  env: NodeJS.ProcessEnv,
): Promise<number> {
  const output = join(directory, 'hyperfine.json');
  const options = ['--warmup', '1', '--runs', '10', '--shell=none', '--export-json', output];
  await mustRun(['hyperfine', ...options, argv.join(' ')], env);
  const { results }: { results: { median: number }[] } = JSON.parse(await readFile(output, 'utf8'));
  return (results[0]?.median ?? Number.NaN) * 1000;
}

/** The version that a tool tells, or why there is none. */
export async function versionOf(argv: readonly string[]): Promise<string> {
  return await mustRun(argv).then(
    (text) => text.split('\n')[0] ?? '',
    () => 'not installed',
  );
}

export interface Memory {
  readonly rssMiB: number;
  /** Shared pages counted by their share. */
  readonly pssMiB: number;
  readonly privateMiB: number;
}

/** From /proc/PID/smaps_rollup. */
export async function memoryOf(pid: number): Promise<Memory> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8');
  const mebibytes = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? Number.NaN) / 1024;
  return {
    rssMiB: mebibytes('Rss'),
    pssMiB: mebibytes('Pss'),
    privateMiB: mebibytes('Private_Clean') + mebibytes('Private_Dirty'),
  };
}

/** CPU time of a process, and of its children that it has reaped, milliseconds. USER_HZ is 100 on Linux. */
export async function cpuMs(
  pid: number | 'self',
): Promise<{ readonly own: number; readonly reaped: number }> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8');
  // The name, in parentheses, may contain anything; after it come fields 3 and on of proc(5).
  const fields = text
    .slice(text.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number);
  const at = (field: number) => (fields[field - 3] ?? Number.NaN) * 10;
  return { own: at(14) + at(15), reaped: at(16) + at(17) };
}

/** Parent of a process. */
export async function parentOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^PPid:\s*(\d+)$/m.exec(status)?.[1]);
}
