import { Option } from 'commander';
import { printable } from '../../base/text.ts';
import type { DoctorCheck } from '../../runtime/views.ts';
import { openCaller } from '../caller.ts';
import { exitCodes } from '../exitCodes.ts';
import { lineJson } from '../render/json.ts';
import type { Verb } from '../verb.ts';

interface DoctorFlags {
  readonly format?: 'json';
}

export const doctor: Verb = {
  configure(command) {
    command.addOption(new Option('--format <format>', 'A JSON object per check').choices(['json']));
  },

  async run(command, context) {
    const { format } = command.opts<DoctorFlags>();
    const engine = await context.deps.engine();
    let code: number = exitCodes.ok;
    using caller = openCaller(context);
    for await (const check of engine.system.doctor(caller, context.signal)) {
      await context.print(format === 'json' ? `${lineJson(check)}\n` : describeCheck(check));
      if (check.status === 'fail') code = exitCodes.failed;
    }
    return code;
  },
};

/** The longest is "jail no-new-privileges". */
const nameWidth = 22;

export function describeCheck({ name, status, detail, remedy }: DoctorCheck): string {
  const line = `${status.padEnd(4)}  ${name.padEnd(nameWidth)}  ${printable(detail, 1000)}\n`;
  return remedy === undefined || status === 'ok'
    ? line
    : `${line}${' '.repeat(nameWidth + 8)}→ ${printable(remedy, 1000)}\n`;
}
