import type { CreateContainerInit, ExecInit } from '../../agent/types.ts';
import { HrunError } from '../../base/errors.ts';
import { guestContainerOf } from '../../oci/containerPlan.ts';
import type { ProcessSpec } from '../../oci/processSpec.ts';
import { guestProcessOf } from '../../oci/specProcess.ts';
import type { TerminalSize } from '../attachIo.ts';
import { shareTag } from '../guestDevices.ts';
import type { Bundle } from './bundle.ts';
import type { SharePlan } from './bundlePlan.ts';
import type { NamespacePlan } from './namespacePlan.ts';
import type { OciRecord } from './ociRecord.ts';

/** What the agent is asked to make of a bundle. `size`: of a terminal that is there already. Pure. */
export function guestContainer(
  record: OciRecord,
  { spec }: Bundle,
  plan: SharePlan,
  namespaces: NamespacePlan,
  size: TerminalSize | undefined,
): CreateContainerInit {
  const container = guestContainerOf(spec, {
    containerId: record.id,
    name: record.name,
    bundle: record.bundle,
    root: { tag: shareTag, path: plan.root },
    bindSource: ({ index }) => ({ tag: shareTag, path: known(plan.sources.get(index)) }),
    joinedContainer: (path) => known(namespaces.joined.get(path)),
    stdinOpen: true,
  });
  return { ...container, process: { ...container.process, ...(size && { terminalSize: size }) } };
}

/** One more process. Pure. @throws HrunError SPEC_INVALID */
export function guestExec(
  containerId: string,
  processId: string,
  process: ProcessSpec,
  own: ProcessSpec,
  size: TerminalSize | undefined,
  ignorePaused: boolean,
): ExecInit {
  const exec = { defaultAffinity: own.execCPUAffinity };
  const init = guestProcessOf(process, { stdinOpen: true, exec });
  return { containerId, processId, ignorePaused, process: { ...init, ...(size && { terminalSize: size }) } };
}

function known<T>(value: T | undefined): T {
  if (value === undefined) throw new HrunError('INTERNAL', 'a plan of a container is not whole');
  return value;
}
