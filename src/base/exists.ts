import { stat } from 'node:fs/promises';
import { errnoOf } from './errors.ts';

/** Whether there is something at `path`, links followed. @throws the system error when that cannot be told */
export async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    (error: unknown) => {
      if (errnoOf(error) === 'ENOENT') return false;
      throw error;
    },
  );
}
