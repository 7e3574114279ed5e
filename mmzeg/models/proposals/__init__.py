from .file_proposals import FileProposals
from .model_proposals import ModelProposals
from .proposal_batch import ProposalBatch, ProposalError

__all__ = ['FileProposals', 'ModelProposals', 'ProposalBatch', 'ProposalError']
