import { HrunError } from '../base/errors.ts';
import type { Pool } from '../pool/pool.ts';
import type { TemplateRecord } from '../pool/templateStore.ts';
import type { Templates } from '../pool/templates.ts';
import { defaultVmSize } from './containerConfig.ts';
import type { PoolEngine } from './engine.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';
import type { TemplateView } from './views.ts';

/** What the verbs about templates and ready clones mean. */
export function poolEngine(
  deps: Pick<RuntimeDeps, 'config' | 'defaults' | 'accelerator'>,
  templates: Templates,
  pool: Pool,
): PoolEngine {
  async function find(id: string): Promise<TemplateRecord> {
    const matches = (await templates.list()).filter(({ key }) => id !== '' && key.startsWith(id));
    const [only, second] = matches;
    if (only === undefined) throw new HrunError('NOT_FOUND', `No such template: ${id}`);
    if (second === undefined) return only;
    throw new HrunError('INVALID_ARGUMENT', `"${id}" is the beginning of ${matches.length} template ids`);
  }

  return {
    async templates() {
      return (await templates.list()).map(viewOf);
    },

    async buildTemplate({ memoryBytes, cpus, scope = deps.config.templateScope }, signal) {
      if (scope.kind === 'none') {
        throw new HrunError('INVALID_ARGUMENT', 'a template of the scope "none" would be nobody\'s');
      }
      const size = defaultVmSize({
        memoryBytes: memoryBytes ?? deps.config.memoryBytes,
        cpus: cpus ?? deps.config.cpus,
      });
      const accelerator = await deps.accelerator(deps.config.accelerator, signal);
      const shape = {
        ...deps.defaults,
        ...size,
        accelerator,
        transport: 'serial',
        kernelParameters: [],
      } as const;
      const key = await templates.keyOf(shape, scope, signal);
      using lease = await templates.use(key, shape, scope, signal);
      return viewOf(lease.template.record);
    },

    async removeTemplate(id) {
      const { key } = await find(id);
      await pool.empty({ key });
      await templates.remove(key);
      return key;
    },

    async pruneTemplates(all, signal) {
      const removed = await templates.prune(all, signal);
      for (const { key } of removed) await pool.empty({ key });
      return removed.map(viewOf);
    },

    status: () => pool.status(),
    filled: (signal) => pool.filled(signal),

    async setPolicy(change) {
      await pool.setPolicy({ ...pool.policy, ...change });
      return pool.status();
    },
  };
}

function viewOf(record: TemplateRecord): TemplateView {
  const { key, shape, scope } = record;
  return {
    id: key,
    createdAtMs: Date.parse(record.createdAt),
    buildMs: record.buildMs,
    accelerator: shape.accelerator,
    vcpus: shape.vcpus,
    memoryMiB: shape.memoryMiB,
    scope: scope.kind === 'tenant' ? `tenant=${scope.name}` : scope.kind,
    sizeBytes: record.ramStoredBytes,
    kernelPath: shape.kernelPath,
    qemuVersion: record.qemuVersion,
  };
}
