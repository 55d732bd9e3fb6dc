import * as Args from '@oclif/core/args'
import * as Flags from '@oclif/core/flags'
import { type ConnectKvOptions, connectKv, type KvClient, XferdError } from '../../src/index.js'
import { XferdCommand } from '../command.js'
import { firstLine } from '../kv-flags.js'

/** The flags of whatever connects to keys. */
export const kvFlags = {
  'password-file': Flags.string({
    helpValue: 'FILE',
    description: 'a file whose first line is the password; otherwise XFERD_KV_PASSWORD is, if that is set',
  }),
  database: Flags.integer({ char: 'n', min: 0, default: 0, helpValue: 'N', description: 'which database' }),
}

export const urlArg = Args.string({
  required: true,
  ignoreStdin: true,
  description: 'kv://HOST[:PORT], kv+unix:///PATH, or xfer://HOST[:PORT] where files are served, too',
})

export interface KvFlags {
  'password-file'?: string | undefined
  database: number
}

/** What the commands on keys share. */
export abstract class KvCommand extends XferdCommand {
  protected async connect(url: string, flags: KvFlags): Promise<KvClient> {
    return connectKv(url, await kvOptions(flags)).catch(withRemedy)
  }
}

/** The SDK does not know how a command is told a password. */
export function withRemedy(error: unknown): never {
  if (!(error instanceof XferdError && error.code === 'PERMISSION')) throw error
  const message = `${error.message}: --password-file FILE, or XFERD_KV_PASSWORD`
  throw new XferdError(error.code, message, { cause: error })
}

export async function kvOptions({ 'password-file': file, database }: KvFlags): Promise<ConnectKvOptions> {
  const password = file === undefined ? process.env.XFERD_KV_PASSWORD : await firstLine(file)
  return { database, ...(password ? { password } : {}) }
}
