import type { GuestProcess } from './guestRequest.ts';
import type { ProcessSpec } from './processSpec.ts';
import { invalidField, refuseFields } from './specFailure.ts';

export interface ProcessContext {
  /** Whether something may come on stdin. */
  readonly stdinOpen: boolean;
  /** Set for an exec: the affinity it gets unless its own process says otherwise (config.json's own). */
  readonly exec?: { readonly defaultAffinity: ProcessSpec['execCPUAffinity'] };
}

const rlimitTypes: ReadonlySet<string> = new Set(
  [
    ...['CPU', 'FSIZE', 'DATA', 'STACK', 'CORE', 'RSS', 'NPROC', 'NOFILE', 'MEMLOCK', 'AS', 'LOCKS'],
    ...['SIGPENDING', 'MSGQUEUE', 'NICE', 'RTPRIO', 'RTTIME'],
  ].map((name) => `RLIMIT_${name}`),
);
const schedulerPolicies = [
  'SCHED_OTHER',
  'SCHED_FIFO',
  'SCHED_RR',
  'SCHED_BATCH',
  'SCHED_IDLE',
  'SCHED_DEADLINE',
];
const schedulerFlags = [
  'SCHED_FLAG_RESET_ON_FORK',
  'SCHED_FLAG_RECLAIM',
  'SCHED_FLAG_DL_OVERRUN',
  'SCHED_FLAG_KEEP_POLICY',
  'SCHED_FLAG_KEEP_PARAMS',
  'SCHED_FLAG_UTIL_CLAMP_MIN',
  'SCHED_FLAG_UTIL_CLAMP_MAX',
];
const ioClasses = ['IOPRIO_CLASS_RT', 'IOPRIO_CLASS_BE', 'IOPRIO_CLASS_IDLE'];

/**
 * The agent's view of a process of config.json or of `exec --process`. AppArmor profile and SELinux label stay behind:
 * they are for the host, the guest's kernel has neither.
 * @throws HrunError SPEC_INVALID, SPEC_UNSUPPORTED
 */
export function guestProcessOf(process: ProcessSpec, { stdinOpen, exec }: ProcessContext): GuestProcess {
  checkProcess(process);
  const { user, capabilities, scheduler, consoleSize, oomScoreAdj, ioPriority } = process;
  const affinity = exec && (process.execCPUAffinity ?? exec.defaultAffinity);
  return {
    args: process.args,
    env: process.env,
    cwd: process.cwd,
    // As runc: made for the process that a container starts with, not for an exec.
    createCwd: exec === undefined,
    uid: user.uid,
    gid: user.gid,
    additionalGids: user.additionalGids,
    ...(user.umask !== undefined && { umask: user.umask }),
    terminal: process.terminal,
    ...(process.terminal &&
      consoleSize && { terminalSize: { rows: consoleSize.height, columns: consoleSize.width } }),
    stdinOpen,
    capabilities: capabilities ?? {
      bounding: [],
      effective: [],
      inheritable: [],
      permitted: [],
      ambient: [],
    },
    noNewPrivileges: process.noNewPrivileges,
    rlimits: process.rlimits,
    ...(oomScoreAdj !== undefined && { oomScoreAdj }),
    ...(scheduler && {
      scheduler: {
        policy: scheduler.policy,
        nice: scheduler.nice,
        priority: scheduler.priority,
        flags: scheduler.flags,
        runtimeNs: scheduler.runtime,
        deadlineNs: scheduler.deadline,
        periodNs: scheduler.period,
      },
    }),
    ...(ioPriority && { ioPriority }),
    ...(affinity && { execCpuAffinity: affinity }),
  };
}

/** What runc checks, in its words. */
function checkProcess(process: ProcessSpec): void {
  if (process.cwd === '') throw invalidField('process.cwd', 'Cwd property must not be empty');
  if (!process.cwd.startsWith('/')) throw invalidField('process.cwd', 'Cwd must be an absolute path');
  if (process.args.length === 0) throw invalidField('process.args', 'args must not be empty');
  refuseFields([
    ['process.commandLine', process.commandLine !== '', 'is for Windows'],
    ['process.user.username', process.user.username !== '', 'is for Windows'],
  ]);
  process.env.forEach((entry, index) => {
    if (!entry.includes('=')) throw invalidField(`process.env.${index}`, `${quoted(entry)} is not KEY=value`);
  });
  checkRlimits(process.rlimits);
  checkScheduler(process.scheduler);
  const { ioPriority } = process;
  if (ioPriority && !ioClasses.includes(ioPriority.class)) {
    throw invalidField('process.ioPriority.class', `${quoted(ioPriority.class)} is no class`);
  }
  if (ioPriority && (ioPriority.priority < 0 || ioPriority.priority > 7)) {
    throw invalidField('process.ioPriority.priority', 'is not between 0 and 7');
  }
}

function checkRlimits(rlimits: ProcessSpec['rlimits']): void {
  const seen = new Set<string>();
  rlimits.forEach(({ type, soft, hard }, index) => {
    const field = `process.rlimits.${index}`;
    if (!rlimitTypes.has(type)) throw invalidField(`${field}.type`, `wrong rlimit value: ${type}`);
    if (seen.has(type)) throw invalidField(`${field}.type`, `${type} occurs twice`);
    if (soft > hard) throw invalidField(`${field}.soft`, `is above the hard limit of ${hard}`);
    seen.add(type);
  });
}

function checkScheduler(scheduler: ProcessSpec['scheduler']): void {
  if (!scheduler) return;
  const { policy, nice, priority, flags, runtime, deadline, period } = scheduler;
  if (!schedulerPolicies.includes(policy)) {
    throw invalidField('process.scheduler.policy', `${quoted(policy)} is no policy that Linux has`);
  }
  const unknown = flags.find((flag) => !schedulerFlags.includes(flag));
  if (unknown !== undefined) throw invalidField('process.scheduler.flags', `${quoted(unknown)} is no flag`);
  if (nice < -20 || nice > 19) throw invalidField('process.scheduler.nice', 'is not between -20 and 19');
  if (priority !== 0 && policy !== 'SCHED_FIFO' && policy !== 'SCHED_RR') {
    throw invalidField(
      'process.scheduler.priority',
      'can only be specified for SCHED_FIFO or SCHED_RR policy',
    );
  }
  if (policy !== 'SCHED_DEADLINE' && (runtime !== 0n || deadline !== 0n || period !== 0n)) {
    throw invalidField(
      'process.scheduler.runtime',
      'scheduler runtime/deadline/period can only be specified for SCHED_DEADLINE policy',
    );
  }
}

function quoted(text: string): string {
  return JSON.stringify(text);
}
