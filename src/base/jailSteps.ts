import { HrunError } from './errors.ts';

/** The steps of the jail around QEMU (docs/security.md), by the names that `--allow-weaker-jail` takes. */
export const jailSteps = [
  'cgroup',
  'namespaces',
  'network',
  'root',
  'limits',
  'uid',
  'capabilities',
  'no-new-privileges',
  'seccomp',
] as const;

export type JailStep = (typeof jailSteps)[number];

export function isJailStep(text: string): text is JailStep {
  return (jailSteps as readonly string[]).includes(text);
}

/** @throws HrunError INVALID_ARGUMENT */
export function parseJailStep(text: string): JailStep {
  if (isJailStep(text)) return text;
  throw new HrunError('INVALID_ARGUMENT', `"${text}" is no step of the jail`, {
    hint: `the steps are ${jailSteps.join(', ')}`,
  });
}
