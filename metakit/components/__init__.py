"""Learners and networks by their specs, strings such as 'maml:inner_steps=5' and 'conv4:width=64'.

The commands of a clone read them, and a trained learner is stored with them (metakit.trained).
"""
