import type { Recorder } from './bench.ts';
import { commandCases } from './cases/commands.ts';
import { execCases } from './cases/execs.ts';
import { readCases } from './cases/imageReads.ts';
import { launchCases } from './cases/launches.ts';
import { managerCases, managerNames, managers } from './cases/managers.ts';
import { ociVerbs, quickVerbs, verbCase } from './cases/ociVerbs.ts';
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
    ...managerNames.flatMap((manager) => underManager(record, manager)),
    ...quickVerbs.flatMap((verb) =>
      ratio(`hrun ${verb} / runc ${verb}`, '≤ 1', ociVerbs.name, [
        verbCase('hrun', verb),
        verbCase('runc', verb),
      ]),
    ),
    ...ratio('hrun ps / runc list', '≤ 0.5', 'command', [commandCases.ps, commandCases.runcList]),
  ];
}

/** A launch under a manager may cost the boot of a microVM more than runc. */
function underManager(record: Recorder, manager: (typeof managerNames)[number]): Ratio[] {
  const of = (name: string) => record.samples(managers.name, name);
  const runc = of(managerCases.run(manager, 'runc'));
  const boot = of(managerCases.rawBoot);
  return (['hrun', 'hrun from its pool'] as const).flatMap((how) => {
    const hrun = of(managerCases.run(manager, how));
    if ([hrun, runc, boot].some((samples) => samples.length === 0)) return [];
    const value = median(hrun) / (median(runc) + 1.3 * median(boot));
    const name = `${manager} run with ${how} / (with runc + 1.3 raw boots)`;
    return [
      { name, target: '≤ 1', value },
      { name: `${manager} run with ${how} / with runc`, target: '', value: median(hrun) / median(runc) },
    ];
  });
}
