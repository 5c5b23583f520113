import { HrunError } from '../../base/errors.ts';

/** Texts that managers match, as runc has them (libcontainer/error.go). */
export function doesNotExist(): HrunError {
  return new HrunError('NOT_FOUND', 'container does not exist');
}

export function alreadyExists(): HrunError {
  return new HrunError('ALREADY_EXISTS', 'container with given ID already exists');
}

export function notRunning(): HrunError {
  return new HrunError('WRONG_STATE', 'container not running');
}

/** What 'events' says of one that has stopped. */
export function notRunningById(id: string): HrunError {
  return new HrunError('WRONG_STATE', `container with id ${id} is not running`);
}

export function notPaused(): HrunError {
  return new HrunError('WRONG_STATE', 'container not paused');
}

export function notStopped(name: string, status: string): HrunError {
  return new HrunError('WRONG_STATE', `cannot delete container ${name} that is not stopped: ${status}`);
}
