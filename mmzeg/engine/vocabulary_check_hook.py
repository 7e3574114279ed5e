"""Stops a run at its start where its classes cannot work, rather than hours later."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmzeg.class_names import split_synonyms
from mmzeg.registry import HOOKS
from mmzeg.utils.unwrap import unwrap
from mmzeg.vocabulary import Vocabulary


@HOOKS.register_module()
class VocabularyCheckHook(Hook):
    """Compares the classifier's vocabularies with the classes of datasets and metrics, and fetches all text embeddings.

    So a word vector that is not there, or a CLIP that is damaged or out of reach, is known before the first iteration
    also where only the first validation would ask for it.

    Raises (at the start of training, validation or test):
        ValueError: Names the first class that differs, and where; or what ``mmzeg.clip.CLIP`` or
            ``mmzeg.clip.EmbeddingFile`` refuse.
        ConnectionError: CLIP's weights are out of reach.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Training classes, and those of validation, before the first iteration."""
        meta = runner.train_dataloader.dataset.metainfo
        classifier = unwrap(runner.model).decode_head.classifier
        classifier.train_vocabulary.check_matches(meta['classes'], 'the training dataset')
        classifier.text_embeddings(training=True)
        if runner.val_loop is not None:
            self._check(runner, runner.val_loop)

    def before_val(self, runner: Runner) -> None:
        """Classes of the validation dataset and of its metrics."""
        self._check(runner, runner.val_loop)

    def before_test(self, runner: Runner) -> None:
        """Classes of the test dataset and of its metrics; which of them training knew, where it had other classes."""
        self._check(runner, runner.test_loop)
        classifier = unwrap(runner.model).decode_head.classifier
        vocabulary, trained = classifier.vocabulary, classifier.train_vocabulary
        if set(vocabulary.seen) != set(trained.names):
            words = {word for name in trained.names for word in split_synonyms(name)}
            known = [name for name in vocabulary.names if words & set(split_synonyms(name))]
            runner.logger.info(
                f'{len(known)} of {len(vocabulary)} classes share a word with one of training: {", ".join(known)}'
            )

    @staticmethod
    def _check(runner: Runner, loop) -> None:
        meta, model = loop.dataloader.dataset.metainfo, unwrap(runner.model)
        classifier = model.decode_head.classifier
        vocabulary: Vocabulary = classifier.vocabulary
        vocabulary.check_matches(meta['classes'], 'the evaluated dataset', unseen=meta.get('unseen_classes', ()))
        for metric in loop.evaluator.metrics:
            unseen = getattr(metric, 'unseen_classes', None)
            if unseen is not None:
                vocabulary.check_matches(vocabulary.names, type(metric).__name__, unseen=unseen)
        device = classifier.text_embeddings(training=False).device
        # mmseg's own EncoderDecoder has no second opinion.
        if getattr(model, 'scorer', None) is not None and model.fusion.needs_scorer:
            model.scorer.prepare(vocabulary, device)
