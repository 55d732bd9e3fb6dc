import { once } from 'node:events'

/** Writes to stdout, and waits as long as nobody reads there. Once nobody will, as behind `| head`, the program ends. */
export async function put(bytes: string | Buffer): Promise<void> {
  if (process.stdout.listenerCount('error', endIfUnread) === 0) process.stdout.on('error', endIfUnread)
  if (!process.stdout.write(bytes)) await once(process.stdout, 'drain')
}

function endIfUnread(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
}
