import { z } from 'zod';

/** What a daemon needs to go on with an attached command whose connection, or daemon, was lost. */
export const AttachRecordSchema = z.strictObject({
  containerId: z.string().regex(/^[0-9a-f]{64}$/),
  /** "init" or the id of an exec. */
  processId: z.string().max(128),
  /** Offset in the command's stream of the workload's first byte (text of hrun itself may precede it). */
  stdoutBase: z.coerce.bigint().nonnegative(),
  stderrBase: z.coerce.bigint().nonnegative(),
  /** The workload's stream offset at `stdoutBase`: not 0 for `attach` to a container that already wrote. */
  stdoutFrom: z.coerce.bigint().nonnegative(),
  stderrFrom: z.coerce.bigint().nonnegative(),
  /** Offset of the workload's input at the command's first byte of stdin. */
  stdinBase: z.coerce.bigint().nonnegative(),
  ownsOutput: z.boolean(),
  terminal: z.boolean(),
  openStdin: z.boolean(),
  signalProxy: z.boolean(),
  /** Keys that detach, as bytes; empty when none do. */
  detachKeys: z.array(z.int().min(0).max(255)),
  /** The workload's exit code is this command's. */
  timing: z.boolean(),
});

export type AttachRecord = Readonly<z.infer<typeof AttachRecordSchema>>;
