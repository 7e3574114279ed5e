"""Check class lists and text embeddings at the start of a run."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmzeg.class_names import split_synonyms
from mmzeg.registry import HOOKS
from mmzeg.utils.unwrap import unwrap
from mmzeg.vocabulary import Vocabulary


def has_classifier(runner: Runner) -> bool:
    """Return whether a runner's model classifies by text."""
    return hasattr(getattr(unwrap(runner.model), 'decode_head', None), 'classifier')


@HOOKS.register_module()
class VocabularyCheckHook(Hook):
    """Compare the classifier's vocabularies with the classes of datasets and metrics, and fetch all text embeddings.

    A missing word vector, or a CLIP that is corrupted or out of reach, therefore stops the run before the first
    iteration, even if only the first validation needs it.

    Raises (at the start of training, validation or test):
        ValueError: The lists differ: names the first class that differs, and where; or as ``mmzeg.clip.CLIP`` or
            ``mmzeg.clip.EmbeddingFile``.
        ConnectionError: CLIP's weights are out of reach.

    A model without a text classifier, such as mmseg's own on ``mmzeg.CLIPBackbone``, has nothing to check.

    The configs set the hook in ``default_hooks``, which a config's own ``custom_hooks`` list does not replace;
    ``tools/train.py`` and ``tools/test.py`` add it to any config by ``ensure_check_hooks``.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Check the training classes, and those of the validation, before the first iteration."""
        if not has_classifier(runner):
            return
        meta = runner.train_dataloader.dataset.metainfo
        classifier = unwrap(runner.model).decode_head.classifier
        classifier.train_vocabulary.check_matches(meta['classes'], 'the training dataset')
        classifier.text_embeddings(training=True)
        if runner.val_loop is not None:
            self._check(runner, runner.val_loop)

    def before_val(self, runner: Runner) -> None:
        """Check the classes of the validation dataset and of its metrics."""
        if has_classifier(runner):
            self._check(runner, runner.val_loop)

    def before_test(self, runner: Runner) -> None:
        """Check the classes of the test dataset and its metrics; log those that share a synonym with training."""
        if not has_classifier(runner):
            return
        self._check(runner, runner.test_loop)
        classifier = unwrap(runner.model).decode_head.classifier
        vocabulary = classifier.vocabulary
        train_vocabulary = classifier.train_vocabulary
        if set(vocabulary.seen) != set(train_vocabulary.names):
            train_synonyms = {synonym for name in train_vocabulary.names for synonym in split_synonyms(name)}
            known = [name for name in vocabulary.names if train_synonyms & set(split_synonyms(name))]
            runner.logger.info(
                f'{len(known)} of {len(vocabulary)} classes share a synonym with a training class: {", ".join(known)}'
            )

    @staticmethod
    def _check(runner: Runner, loop) -> None:
        # Compare the class lists of dataset and metrics.
        meta = loop.dataloader.dataset.metainfo
        model = unwrap(runner.model)
        classifier = model.decode_head.classifier
        vocabulary: Vocabulary = classifier.vocabulary
        vocabulary.check_matches(meta['classes'], 'the evaluated dataset', unseen=meta.get('unseen_classes', ()))
        for metric in loop.evaluator.metrics:
            unseen = getattr(metric, 'unseen_classes', None)
            if unseen is not None:
                vocabulary.check_matches(vocabulary.names, type(metric).__name__, unseen=unseen)
        # Fetch the text embeddings of the classifier, and of the scorer (which mmseg's EncoderDecoder does not have).
        device = classifier.text_embeddings(training=False).device
        if getattr(model, 'scorer', None) is not None and model.fusion.needs_scorer:
            model.scorer.prepare(vocabulary, device)
