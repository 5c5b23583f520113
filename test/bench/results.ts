import { z } from 'zod';

/** What one case measured. Units are those of its samples; `better` says which way is up. */
const SeriesSchema = z.object({
  group: z.string(),
  name: z.string(),
  unit: z.string(),
  better: z.enum(['lower', 'higher']),
  samples: z.array(z.number()),
});

/** A relation of two medians of one run, and what it is meant to be. */
const RatioSchema = z.object({ name: z.string(), value: z.number().nullable(), target: z.string() });

export const ResultsSchema = z.object({
  version: z.literal(1),
  startedAt: z.string(),
  finishedAt: z.string(),
  command: z.string(),
  rounds: z.int(),
  host: z.record(z.string(), z.unknown()),
  series: z.array(SeriesSchema),
  /** What failed while it was measured: a benchmark with failures is none. */
  failures: z.array(z.object({ group: z.string(), name: z.string(), message: z.string() })),
  /** What this machine or this build cannot measure, and why. */
  missing: z.array(z.object({ group: z.string(), name: z.string(), reason: z.string() })),
  ratios: z.array(RatioSchema),
});

export type Results = z.infer<typeof ResultsSchema>;
export type Series = z.infer<typeof SeriesSchema>;
export type Ratio = z.infer<typeof RatioSchema>;
