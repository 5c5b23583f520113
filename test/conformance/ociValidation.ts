/**
 * Runs the programs of the OCI validation suite against a runtime and holds the outcome to `ociValidation.json`, which
 * says of each program that does not pass why.
 *
 *   node test/conformance/ociValidation.ts SUITE RUNTIME [PROGRAM…]
 */
import { spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';

/** Of one program; most take seconds, some start a dozen containers. */
const limitMs = 300_000;

const Expectations = z.record(
  z.string(),
  z.object({
    runc: z.string(),
    /** Why it does not pass. */
    why: z.string().optional(),
    /** Why it passes or not, as it happens: what it races with. */
    race: z.string().optional(),
  }),
);

interface Outcome {
  readonly passed: boolean;
  /** What did not hold, or the last words of a program that broke off. */
  readonly troubles: readonly string[];
}

const [suite, runtime, ...chosen] = process.argv.slice(2);
if (suite === undefined || runtime === undefined) {
  console.error('usage: ociValidation.ts SUITE RUNTIME [PROGRAM…]');
  process.exit(2);
}
const isRunc = /(^|\/)(runc|crun)$/.test(runtime);
const expected = Expectations.parse(
  JSON.parse(await readFile(join(import.meta.dirname, 'ociValidation.json'), 'utf8')),
);
const programs = chosen.length > 0 ? chosen : (await readdir(join(suite, 'programs'))).sort();
const surprises: string[] = [];
let passed = 0;
for (const program of programs) {
  const { passed: ok, troubles } = await runProgram(program);
  if (ok) passed += 1;
  const { why, race } = expected[program] ?? {};
  console.log(`${ok ? 'pass' : 'FAIL'} ${program}`);
  for (const trouble of troubles) console.log(`     ${trouble}`);
  if (isRunc || race !== undefined) continue;
  if (!ok && why === undefined) surprises.push(`${program} fails`);
  if (ok && why !== undefined) surprises.push(`${program} passes, and is said not to: ${why}`);
}
console.log(`${passed} of ${programs.length} pass`);
for (const surprise of surprises) console.error(surprise);
process.exitCode = surprises.length > 0 ? 1 : 0;

async function runProgram(program: string): Promise<Outcome> {
  // The suite leaves its bundles behind.
  const scratch = await mkdtemp(join(tmpdir(), 'ocival'));
  try {
    const { code, stdout, stderr } = await run(program, scratch);
    const lines = stdout.split('\n');
    const broken = lines.filter((line) => /^not ok\b/.test(line) && !/#\s*(todo|skip)/i.test(line));
    // Some programs print no TAP at all, or no plan: the exit code tells whether they came to their end.
    const words = code === 0 ? [] : [`exit code ${code}`, ...stderr.trim().split('\n').slice(-4)];
    return { passed: code === 0 && broken.length === 0, troubles: [...broken.slice(0, 6), ...words] };
  } finally {
    // A runtime that broke off may have left something mounted: that is its own trouble.
    await rm(scratch, { recursive: true, force: true }).catch((error) => console.log(`     ${error}`));
  }
}

function run(program: string, scratch: string) {
  const done = Promise.withResolvers<{ code: number | null; stdout: string; stderr: string }>();
  const child = spawn(resolve(suite ?? '', 'programs', program), [], {
    cwd: suite,
    env: { ...process.env, RUNTIME: runtime?.includes('/') ? resolve(runtime) : runtime, TMPDIR: scratch },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: limitMs,
    killSignal: 'SIGKILL',
  });
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      texts[name] += text;
    });
  }
  child.once('error', done.reject);
  child.once('close', (code) => done.resolve({ code, ...texts }));
  return done.promise;
}
