import * as Args from '@oclif/core/args'
import * as Flags from '@oclif/core/flags'
import { connect } from '../../src/index.js'
import { parseAddresses, XferdCommand } from '../command.js'

export class Rm extends XferdCommand {
  static override summary = 'Remove files and folders from a server.'
  static override examples = [
    '<%= config.bin %> rm xfer://nas/films/movie.mkv',
    '<%= config.bin %> rm xfer://nas/old --recursive',
  ]
  static override args = {
    path: Args.string({
      required: true,
      multiple: true,
      ignoreStdin: true,
      description: 'what to remove: xfer://HOST[:PORT]/PATH',
    }),
  }
  static override flags = {
    recursive: Flags.boolean({ char: 'r', description: 'folders with all that is in them' }),
  }

  override async run(): Promise<{ removed: string[] }> {
    const { args, flags } = await this.parse(Rm)
    const { server, paths } = parseAddresses(args.path)
    await using client = await connect(server)
    for (const path of paths) await client.remove(path, { recursive: flags.recursive })
    return { removed: paths }
  }
}
