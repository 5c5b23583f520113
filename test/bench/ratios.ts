import type { Recorder } from './bench.ts';
import { commandCases } from './cases/commands.ts';
import { execCases } from './cases/execs.ts';
import { readCases } from './cases/imageReads.ts';
import { launchCases } from './cases/launches.ts';
import type { Ratio } from './results.ts';
import { median } from './stats.ts';

/** The promises about speed: medians of one run over medians of the same run. */
export function ratiosOf(record: Recorder): Ratio[] {
  const ratio = (
    name: string,
    target: string,
    group: string,
    [over, under]: readonly [string, string],
  ): Ratio[] => {
    const [above, below] = [record.samples(group, over), record.samples(group, under)];
    if (above.length === 0 || below.length === 0) return [];
    return [{ name, target, value: median(above) / median(below) }];
  };
  const { rawBoot, rawRestore, cold, cloned, pooled, runc, crun } = launchCases;
  return [
    ...ratio('cold run / raw boot', '≤ 1.3', 'launch', [cold, rawBoot]),
    ...ratio('cloned run / raw boot', '≤ 0.25', 'launch', [cloned, rawBoot]),
    ...ratio('cloned run / raw restore', '≤ 1.5', 'launch', [cloned, rawRestore]),
    ...ratio('pooled run / podman run with runc', '≤ 0.5', 'launch', [pooled, runc]),
    ...ratio('pooled run / podman run with crun', '', 'launch', [pooled, crun]),
    ...ratio('exec / podman exec with runc', '≤ 0.4', 'exec', [execCases.hrun, execCases.runc]),
    ...ratio('image read in a container / on the host', '', 'read', [readCases.guest, readCases.host]),
    ...ratio('hrun ps / runc list', '≤ 0.5', 'command', [commandCases.ps, commandCases.runcList]),
  ];
}
