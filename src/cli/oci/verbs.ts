import { checkpoint, restore } from './checkpoint.ts';
import { create } from './create.ts';
import { deleteVerb } from './delete.ts';
import { events } from './events.ts';
import { exec } from './exec.ts';
import { features } from './features.ts';
import { kill } from './kill.ts';
import { list } from './list.ts';
import type { OciVerb } from './ociVerb.ts';
import { pause, resume } from './pause.ts';
import { ps } from './ps.ts';
import { run } from './run.ts';
import { spec } from './spec.ts';
import { start } from './start.ts';
import { state } from './state.ts';
import { update } from './update.ts';

/** runc's verbs, in the order of its help. */
export const ociVerbs: readonly OciVerb[] = [
  checkpoint,
  create,
  deleteVerb,
  events,
  exec,
  kill,
  list,
  pause,
  ps,
  restore,
  resume,
  run,
  spec,
  start,
  state,
  update,
  features,
];

export function findOciVerb(name: string): OciVerb | undefined {
  return ociVerbs.find((verb) => verb.name === name);
}
