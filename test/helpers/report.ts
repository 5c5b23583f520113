import { appendFile } from 'node:fs/promises';

/**
 * Notes what a run of tests has tried, for `build/report.ts` to make tables of. Only a run that asks for it
 * (HRUN_REPORT names the file) leaves a note.
 */
export async function report(kind: string, name: string, facts: object): Promise<void> {
  const path = process.env.HRUN_REPORT;
  if (path === undefined) return;
  await appendFile(path, `${JSON.stringify({ kind, name, facts })}\n`);
}
