/** Serial numbers of the two disk slots and the tag of the share, by which the agent finds them. */
export const imageDiskSerial = 'image';
export const scratchDiskSerial = 'scratch';
export const shareTag = 'hrun';
