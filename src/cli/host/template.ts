import { parseTemplateScope } from '../../base/templateScope.ts';
import { formatAgo, formatMemory, formatSize } from '../../base/units.ts';
import type { TemplateView } from '../../runtime/views.ts';
import { exitCodes } from '../exitCodes.ts';
import { checked, sizeOption } from '../flags.ts';
import { parseCpus } from '../parse/limits.ts';
import { type ListShape, type Row, renderList } from '../render/format.ts';
import { forEachTarget } from '../targets.ts';
import type { Verb } from '../verb.ts';

interface ListFlags {
  readonly format?: string;
  readonly quiet?: true;
}

interface BuildFlags {
  readonly cpus?: number;
  readonly memory?: number;
  readonly scope?: ReturnType<typeof parseTemplateScope>;
}

interface PruneFlags {
  readonly all?: true;
}

const shape: ListShape = {
  headers: {
    ID: 'TEMPLATE ID',
    Accelerator: 'ACCELERATOR',
    Cpus: 'CPUS',
    Memory: 'MEMORY',
    Scope: 'SCOPE',
    Size: 'SIZE',
    CreatedSince: 'CREATED',
    CreatedAt: 'CREATED AT',
    BuildTime: 'BUILD TIME',
    Kernel: 'KERNEL',
    QemuVersion: 'QEMU',
  },
  columns: ['ID', 'Accelerator', 'Cpus', 'Memory', 'Scope', 'Size', 'CreatedSince'],
};
const shortIdLength = 12;

export const templateList: Verb = {
  configure(command) {
    command.option('--format <format>', 'json, or a Go template, also "table TEMPLATE"');
    command.option('-q, --quiet', 'Show ids only');
  },

  async run(command, context) {
    const { format, quiet } = command.opts<ListFlags>();
    const { pool } = await context.deps.engine();
    const rows = (await pool.templates()).map((template) => templateRow(template, context.deps.now()));
    const asIds = quiet === true && format === undefined;
    await context.print(asIds ? rows.map(({ ID }) => `${ID}\n`).join('') : renderList(rows, shape, format));
    return exitCodes.ok;
  },
};

export const templateBuild: Verb = {
  configure(command) {
    command.option('--cpus <number>', 'Of containers with so many CPUs', checked(parseCpus));
    command.option('-m, --memory <size>', 'Of containers with so much memory', sizeOption('--memory'));
    command.option('--scope <scope>', 'Whose they are: host or tenant=NAME', checked(parseTemplateScope));
  },

  async run(command, context) {
    const { cpus, memory, scope } = command.opts<BuildFlags>();
    const { pool } = await context.deps.engine();
    const { id } = await pool.buildTemplate(
      {
        ...(cpus !== undefined && { cpus }),
        ...(memory !== undefined && { memoryBytes: memory }),
        ...(scope !== undefined && { scope }),
      },
      context.signal,
    );
    await context.print(`${id}\n`);
    return exitCodes.ok;
  },
};

export const templateRemove: Verb = {
  configure() {},

  async run(command, context) {
    const { pool } = await context.deps.engine();
    return await forEachTarget(command.args, context, (id) => pool.removeTemplate(id));
  },
};

export const templatePrune: Verb = {
  configure(command) {
    command.option(
      '-a, --all',
      'Remove all templates, not only those that nothing can be cloned from any more',
    );
  },

  async run(command, context) {
    const { pool } = await context.deps.engine();
    const removed = await pool.pruneTemplates(command.opts<PruneFlags>().all === true, context.signal);
    const bytes = removed.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const lines = [...removed.map(({ id }) => id), `Total reclaimed space: ${formatSize(bytes)}`];
    await context.print(`${lines.join('\n')}\n`);
    return exitCodes.ok;
  },
};

function templateRow(template: TemplateView, nowMs: number): Row {
  return {
    ID: template.id.slice(0, shortIdLength),
    Accelerator: template.accelerator,
    Cpus: String(template.vcpus),
    Memory: formatMemory(template.memoryMiB * 1024 * 1024),
    Scope: template.scope,
    Size: formatSize(template.sizeBytes, 3),
    CreatedSince: formatAgo(template.createdAtMs, nowMs),
    CreatedAt: new Date(template.createdAtMs).toISOString(),
    BuildTime: `${template.buildMs} ms`,
    Kernel: template.kernelPath,
    QemuVersion: template.qemuVersion,
  };
}
